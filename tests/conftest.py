"""What all tests share: hypothesis without deadlines, because a busy machine is no bug; where figures go.

Each run looks at examples of its own. `make test` looks at the same ones every time (`--hypothesis-profile=same`), so that a
change is judged by what it does and not by what nobody has met before.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.lab.figures import Figures

settings.register_profile("hostward", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("hostward"), derandomize=True)
settings.load_profile("hostward")


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Tells the figures of this test."""
    return Figures(request.node.nodeid, request.node.get_closest_marker("soak") is not None)
