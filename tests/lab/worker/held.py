"""TCP connections that are kept open, and asked now and then whether they still carry data."""

from __future__ import annotations

import secrets
import select
import socket
import time


class Held:
    """Connections by name. An answer is "ok", "timeout" or the error; lines unanswered earlier are read over."""

    def __init__(self) -> None:
        self.connections: dict[str, socket.socket] = {}

    def hold(self, name: str, address: str, port: int, timeout: float) -> str:
        """Opens a connection and keeps it."""
        self.drop(name)
        try:
            self.connections[name] = socket.create_connection((address, port), timeout)
        except OSError as error:
            return "timeout" if isinstance(error, TimeoutError) else str(error)
        return self.ask(name, timeout)

    def ask(self, name: str, timeout: float) -> str:
        """Sends a line and waits for its echo: do packets of this open connection still pass?"""
        sock = self.connections.get(name)
        if sock is None:
            return "not open"
        token = secrets.token_hex(4).encode()
        deadline = time.monotonic() + timeout
        try:
            sock.sendall(token + b"\n")
            while (left := deadline - time.monotonic()) > 0 and select.select([sock], [], [], left)[0]:
                data = sock.recv(4096)
                if token in data:
                    return "ok"
                if not data:
                    return "closed"
        except OSError as error:
            return str(error)
        return "timeout"

    def drop(self, name: str) -> str:
        """Closes a connection, if it is open."""
        sock = self.connections.pop(name, None)
        if sock is not None:
            sock.close()
        return "ok"
