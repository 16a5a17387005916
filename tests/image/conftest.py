"""The image, made once, and the pod that our manifest runs it in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab import image
from tests.lab.image import Image

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def built() -> Image:
    return image.build()


@pytest.fixture(scope="session")
def pod() -> dict[str, Any]:
    (document,) = yaml.safe_load_all((ROOT / "deploy/daemonset.yaml").read_text(encoding="utf-8"))
    found: dict[str, Any] = document["spec"]["template"]["spec"]
    return found
