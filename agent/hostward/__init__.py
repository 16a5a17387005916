"""Hostward: a host firewall agent for Calico-style policies."""

from typing import Final

__version__: Final = "0.1.0"
