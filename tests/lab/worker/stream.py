"""Numbered datagrams at a steady rate, and their count at the other end."""

from __future__ import annotations

import contextlib
import errno
import secrets
import select
import socket
import sys
import time
from functools import partial
from typing import Any

from tests.lab.worker.loop import Loop
from tests.lab.worker.packets import MAGIC, STREAM
from tests.lab.worker.servers import EVERYWHERE, server

MOST_AT_ONCE = 20  # datagrams of a class
SO_RCVBUFFORCE = 33  # <asm-generic/socket.h>; the socket module does not name it


class Counter:
    """UDP ports that only count what arrives."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.arrived: dict[int, list[tuple[int, int, int]]] = {}

    def receive(self, ports: list[int]) -> dict[str, Any]:
        """Opens the ports, with room for bursts."""
        for family, any_address in EVERYWHERE:
            for port in ports:
                sock = server(family, socket.SOCK_DGRAM)
                sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
                sock.bind((any_address, port))
                self.loop.watch(sock, partial(self.count, sock))
        return {}

    def count(self, sock: socket.socket, _event: int) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(256):
                data = sock.recv(64)
                now = time.monotonic_ns()
                if len(data) == STREAM.size and data.startswith(MAGIC):
                    _magic, number, sequence, sent = STREAM.unpack(data)
                    self.arrived.setdefault(number, []).append((sequence, sent, now))

    def collect(self) -> dict[str, Any]:
        """What arrived until now: class to [sequence number, sent, arrived], times in CLOCK_MONOTONIC nanoseconds."""
        while self.loop.turn(0):
            pass  # each turn takes a part of what has landed
        return {"arrived": {str(number): items for number, items in self.arrived.items()}}


class Sender:
    """One class of a stream: where it goes, and its next source port."""

    def __init__(self, number: int, address: str, port: int) -> None:
        self.number, self.target = number, (address, port)
        self.family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.refused = 0
        self.source = 10_000 + secrets.randbelow(20_000)
        self.sock = self.open()

    def send(self, sequence: int, *, fresh: bool) -> None:
        """Sends one datagram; what our own host's OUTPUT refuses counts as sent and lost."""
        if fresh:
            self.sock.close()
            self.sock = self.open()
        try:
            self.sock.sendto(STREAM.pack(MAGIC, self.number, sequence, time.monotonic_ns()), self.target)
        except OSError:
            self.refused += 1

    def open(self) -> socket.socket:
        """A socket on the next free source port: ports come round again only after 50,000 datagrams."""
        for _ in range(1000):
            self.source = self.source + 1 if self.source < 60_000 else 10_000
            sock = socket.socket(self.family, socket.SOCK_DGRAM)
            try:
                sock.bind(("", self.source))
            except OSError:
                sock.close()
            else:
                return sock
        raise OSError(errno.EADDRINUSE, "1,000 source ports in a row are taken")


def send(classes: list[dict[str, Any]], rate: int, seconds: float, fresh: bool) -> dict[str, Any]:
    """Sends `rate` datagrams a second of every class, for `seconds` or until anything comes on stdin.

    Late ticks are made up for: a busy machine sends the same numbers a little later, but no burst that it would then drop.
    `fresh` gives each datagram a source port of its own, so that conntrack sees a new flow each time.
    """
    senders = [Sender(entry["number"], entry["address"], entry["port"]) for entry in classes]
    began = time.monotonic()
    total = int(rate * seconds)
    sent = 0
    while sent < total:
        due = min(total, int((time.monotonic() - began) * rate) + 1, sent + MOST_AT_ONCE)
        for sequence in range(sent, due):
            for sender in senders:
                sender.send(sequence, fresh=fresh)
        sent = max(sent, due)
        if select.select([sys.stdin], [], [], max(0.001, began + sent / rate - time.monotonic()))[0]:
            break
    for sender in senders:
        sender.sock.close()
    return {
        "sent": sent,
        "refused": {str(sender.number): sender.refused for sender in senders},
        "seconds": time.monotonic() - began,
    }
