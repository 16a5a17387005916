"""What gRPC says of a server that can't be reached, in words for the operator."""

from __future__ import annotations

import pytest

from hostward.datastore.etcd.errors import explain

_ALL = "failed to connect to all addresses; last error: "


@pytest.mark.parametrize(
    ("details", "told"),
    [
        ("UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote host: Connection refused", "Connection refused"),
        (
            "UNKNOWN: ipv4:192.0.2.7:2379: Failed to connect to remote host: getsockopt(SO_ERROR): No route to host",
            "No route to host",
        ),
        (
            "FAILED_PRECONDITION: ipv4:192.0.2.7:2379: connect failed: addr: ipv4:192.0.2.7:2379 error: Network is unreachable",
            "Network is unreachable",
        ),
        (
            "FAILED_PRECONDITION: ipv6:[::2]:1: connect failed: addr: ipv6:[::2]:1 error: Network is unreachable",
            "Network is unreachable",
        ),
        ("UNKNOWN: something that nobody has seen so far", f"{_ALL}UNKNOWN: something that nobody has seen so far"),
    ],
)
def test_why_there_is_no_connection(details: str, told: str) -> None:
    assert explain(_ALL + details) == told
