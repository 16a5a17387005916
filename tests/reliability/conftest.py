"""Fixtures of other packages that are used here, too."""

from __future__ import annotations

from tests.e2e.conftest import site

__all__ = ["site"]
