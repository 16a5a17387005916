"""Datagrams that tell when a port opened or closed: numbered, every 200 us, each from another source port.

A process in the client's namespace sends and notes when; what arrived is counted in the guarded one. The moment of a change is
when the first of at least five datagrams in a row was sent that met the new state, so that one lost datagram is no change.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.lab.netns import Namespace

PERIOD = 0.0002
IN_A_ROW = 5
ROOM = 1 << 20  # datagrams of one sender
SETTLED = 40  # datagrams that must have met the old state before a change
PAUSE, SEND, END = 0, 1, 2
_HEADER = 16
_NUMBER = struct.Struct("=q")
_TIME = struct.Struct("=d")


class Flow:
    """Datagrams from a client to a port of a guarded host. `close` ends the sender."""

    def __init__(self, client: Namespace, guarded: Namespace, address: str, port: int) -> None:
        with tempfile.NamedTemporaryFile(prefix="hostward-flow-", dir="/dev/shm", delete=False) as file:
            file.truncate(_HEADER + ROOM * _TIME.size)
            self._path = Path(file.name)
            self._shared = mmap.mmap(file.fileno(), 0)
        self._got = bytearray(ROOM)
        with guarded.entered():
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE: nothing waits for a reader
            self._socket.bind((address, port))
            self._socket.setblocking(False)
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", client.name, sys.executable, "-m", "benchmarks.flow", str(self._path), address, str(port)],
            stdin=subprocess.DEVNULL,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the sender."""
        self._order(END)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        self._socket.close()
        self._path.unlink()

    def _order(self, what: int) -> None:
        _NUMBER.pack_into(self._shared, 0, what)

    @property
    def _sent(self) -> int:
        return int(_NUMBER.unpack_from(self._shared, 8)[0])

    def _sent_at(self, number: int) -> float:
        return float(_TIME.unpack_from(self._shared, _HEADER + number * _TIME.size)[0])

    def _receive(self) -> None:
        while True:
            try:
                self._got[_NUMBER.unpack(self._socket.recv(64))[0]] = 1
            except BlockingIOError:
                return

    def time(self, change: Callable[[], object], *, opens: bool, limit: float = 60.0) -> tuple[float, float]:
        """Makes a change; (when it began, when the first datagram was sent that met it), on the monotonic clock."""
        new = bytes([opens]) * IN_A_ROW
        first = self._sent
        self._order(SEND)
        try:
            self._wait_settled(first, opens=opens)
            began = time.monotonic()
            change()
            number = self._sent
            while self._sent_at(number - 1) >= began:
                number -= 1
            while time.monotonic() < began + limit:
                done = self._sent
                time.sleep(0.005)  # and what was sent by then has arrived, if it ever will
                self._receive()
                found = self._got.find(new, number, done)
                if found >= 0:
                    return began, self._sent_at(found)
                number = max(number, done - IN_A_ROW)
        finally:
            self._order(PAUSE)
        raise TimeoutError(f"the port did not {'open' if opens else 'close'} within {limit} s")

    def _wait_settled(self, first: int, *, opens: bool) -> None:
        """Waits for the first datagrams, all of which must meet the old state."""
        deadline = time.monotonic() + 10
        while (done := self._sent) < first + SETTLED:
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise TimeoutError("the sender does not send")
            time.sleep(0.001)
        time.sleep(0.005)
        self._receive()
        if self._got[first:done].count(opens):
            raise RuntimeError(f"the port was {'open' if opens else 'closed'} before it was to be")


def _send(path: str, address: str, port: int) -> None:
    """The sender's process."""
    with Path(path).open("r+b") as file:
        shared = mmap.mmap(file.fileno(), 0)
    out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
    number, due = 0, 0.0
    parent = os.getppid()
    while (order := _NUMBER.unpack_from(shared, 0)[0]) != END and number < ROOM:
        now = time.monotonic()
        if order == PAUSE:
            if os.getppid() != parent:
                return  # nobody is left who could say when to end
            time.sleep(0.002)
            continue
        if now < due:
            time.sleep(due - now)
        due = max(due, now - PERIOD) + PERIOD
        header = struct.pack("!HHHH", 1024 + number % 64_000, port, 8 + _NUMBER.size, 0)  # checksum 0: not given (RFC 768)
        _TIME.pack_into(shared, _HEADER + number * _TIME.size, time.monotonic())
        out.sendto(header + _NUMBER.pack(number), (address, 0))
        number += 1
        _NUMBER.pack_into(shared, 8, number)


if __name__ == "__main__":
    _send(sys.argv[1], sys.argv[2], int(sys.argv[3]))
