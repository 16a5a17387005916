"""Requests to one Kubernetes API server. Used by several threads at a time."""

from __future__ import annotations


class Client:
    """A server and who asks it. Made by `Client(access)`; see `hostward.kube.access`."""

    def close(self) -> None:
        """Ends every request, now and from now on; for use after the reflectors' stop event was set."""
