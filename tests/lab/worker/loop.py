"""The worker's event loop: sockets and what to do when one is readable. One thread."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

Handler = Callable[[int], None]


class Loop:
    """Sockets by file descriptor, each with its handler."""

    def __init__(self) -> None:
        self.poll = select.poll()
        self.ready: dict[int, Handler] = {}

    def watch(self, sock: socket.socket, handle: Handler, events: int = select.POLLIN) -> None:
        self.watch_fd(sock.fileno(), handle, events)

    def watch_fd(self, fd: int, handle: Handler, events: int = select.POLLIN) -> None:
        self.ready[fd] = handle
        self.poll.register(fd, events)

    def forget_handler(self, sock: socket.socket) -> None:
        """Stops watching a socket and leaves it open."""
        if self.ready.pop(sock.fileno(), None) is not None:
            self.poll.unregister(sock)

    def forget(self, sock: socket.socket) -> None:
        """Closes a socket, watched or not."""
        self.forget_handler(sock)
        sock.close()

    def turn(self, seconds: float | None) -> bool:
        """Waits at most `seconds` and serves whatever is ready; whether anything was."""
        ready = self.poll.poll(None if seconds is None else max(0.0, seconds) * 1000)
        for fd, event in ready:
            handle = self.ready.get(fd)
            if handle is not None:
                handle(event)
        return bool(ready)
