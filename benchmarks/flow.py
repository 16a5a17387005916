"""Datagrams that tell when a port opened or closed: numbered, every 200 us, each from another source port.

A process in the client's namespace, on a CPU of its own, sends and notes when; what arrived is counted in the guarded one. The
moment of a change is when the first of at least five datagrams in a row was sent that met the new state, so that one lost
datagram is no change.
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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from tests.lab.netns import Namespace

PERIOD = 0.0002
IN_A_ROW = 5
ROOM = 1 << 21  # datagrams of one sender
SETTLED = 40  # datagrams that must have met the old state before a change
PAUSE, SEND, END = 0, 1, 2
_HEADER = 24  # what to do, how many were sent, to which port
_NUMBER = struct.Struct("=q")
_TIME = struct.Struct("=d")


class Flow:
    """Datagrams from an address of a client to ports of a guarded host, one at a time. `close` ends the sender."""

    def __init__(self, client: Namespace, guarded: Namespace, address: str, source: str, ports: Sequence[int]) -> None:
        with tempfile.NamedTemporaryFile(prefix="hostward-flow-", dir="/dev/shm", delete=False) as file:
            file.truncate(_HEADER + ROOM * _TIME.size)
            self._path = Path(file.name)
            self._shared = mmap.mmap(file.fileno(), 0)
        self._got = bytearray(ROOM)
        self._sockets: list[socket.socket] = []
        with guarded.entered():
            for port in ports:
                heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                heard.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE: nothing waits for a reader
                heard.bind((address, port))
                heard.setblocking(False)
                self._sockets.append(heard)
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", client.name, sys.executable, "-m", "benchmarks.flow", str(self._path), address, source],
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
        for heard in self._sockets:
            heard.close()
        self._path.unlink()

    def _order(self, what: int) -> None:
        _NUMBER.pack_into(self._shared, 0, what)

    @property
    def _sent(self) -> int:
        return int(_NUMBER.unpack_from(self._shared, 8)[0])

    def _sent_at(self, number: int) -> float:
        return float(_TIME.unpack_from(self._shared, _HEADER + number * _TIME.size)[0])

    def _receive(self) -> None:
        for heard in self._sockets:
            while True:
                try:
                    self._got[_NUMBER.unpack(heard.recv(64))[0]] = 1
                except BlockingIOError:
                    break

    def time(self, change: Callable[[], object], port: int, *, opens: bool, limit: float = 60.0) -> tuple[float, float]:
        """Makes a change; (when it began, when the first datagram was sent that met it), on the monotonic clock."""
        new = bytes([opens]) * IN_A_ROW
        first = self._begin(port)
        try:
            self._wait_settled(first, opens=opens)
            began = time.monotonic()
            change()
            number = self._first_since(began)
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

    def exposed(self, disturb: Callable[[], object], port: int, repaired: Callable[[], object]) -> tuple[float, float]:
        """Opens a shut port by `disturb`, returns when `repaired` has: seconds from the begin until the last datagram that
        got in, and for how long any did."""
        first = self._begin(port)
        try:
            self._wait_settled(first, opens=True)
            began = time.monotonic()
            disturb()
            repaired()
            time.sleep(0.05)
            number, done = self._first_since(began), self._sent
            time.sleep(0.005)
            self._receive()
        finally:
            self._order(PAUSE)
        opened, shut = self._got.find(1, number, done), self._got.rfind(1, number, done)
        if opened < 0:
            return 0.0, 0.0
        last = self._sent_at(shut) + PERIOD
        return last - began, last - self._sent_at(opened)

    def _begin(self, port: int) -> int:
        if self._sent > ROOM * 9 // 10:
            raise RuntimeError("more datagrams than there is room for: shorter blocks are needed")
        first = self._sent
        _NUMBER.pack_into(self._shared, 16, port)
        self._order(SEND)
        return first

    def _first_since(self, began: float) -> int:
        number = self._sent
        while self._sent_at(number - 1) >= began:
            number -= 1
        return number

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


def _send(path: str, address: str, source: str) -> None:
    """The sender's process."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with Path(path).open("r+b") as file:
        shared = mmap.mmap(file.fileno(), 0)
    out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
    out.bind((source, 0))
    number, due = 0, 0.0
    parent = os.getppid()
    while (order := _NUMBER.unpack_from(shared, 0)[0]) != END and number < ROOM:
        now = time.monotonic()
        if order == PAUSE:
            if os.getppid() != parent:
                return  # nobody is left who could say when to end
            time.sleep(0.005)
            continue
        if now < due:
            time.sleep(due - now)
        due = max(due, now - PERIOD) + PERIOD
        port = _NUMBER.unpack_from(shared, 16)[0]
        header = struct.pack("!HHHH", 1024 + number % 64_000, port, 8 + _NUMBER.size, 0)  # checksum 0: not given (RFC 768)
        _TIME.pack_into(shared, _HEADER + number * _TIME.size, time.monotonic())
        out.sendto(header + _NUMBER.pack(number), (address, 0))
        number += 1
        _NUMBER.pack_into(shared, 8, number)


if __name__ == "__main__":
    _send(sys.argv[1], sys.argv[2], sys.argv[3])
