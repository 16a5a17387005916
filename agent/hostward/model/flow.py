"""An open connection as conntrack keeps it: a value, canonical texts. Pure; any thread."""

from __future__ import annotations

from typing import NamedTuple


class Flow(NamedTuple):
    """Who began it, with whom, by which ports (0 where the protocol has none), and who answers from where after nat.

    `entry`: the kernel's own bytes, by which it is found again. `related`: it was expected by another one, as FTP's data.
    """

    source: str
    source_port: int
    destination: str
    destination_port: int
    protocol: int
    answer: str
    answer_port: int
    answered_to: str
    icmp_type: int = 0
    icmp_code: int = 0
    related: bool = False
    mark: int = 0
    entry: bytes = b""

    def __str__(self) -> str:
        through = f" ({_end(self.answer, self.answer_port)})" if self.answer != self.destination else ""
        return f"{_end(self.source, self.source_port)} to {_end(self.destination, self.destination_port)}{through}"


def _end(address: str, port: int) -> str:
    host = f"[{address}]" if ":" in address and port else address
    return f"{host}:{port}" if port else host
