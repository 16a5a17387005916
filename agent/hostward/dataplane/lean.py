"""Imports of a part of a package without the rest of it: pyroute2's own would load all of it, 8 MiB and a tenth of a second."""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec


def without_init(package: str) -> None:
    """Makes a package's modules importable without running its `__init__`, unless it ran already or isn't there.

    Whoever imports the package itself after that, in the same process, finds its modules and none of its own names.
    """
    if package in sys.modules or (spec := find_spec(package)) is None or spec.submodule_search_locations is None:
        return
    sys.modules[package] = module_from_spec(spec)  # made, not executed
