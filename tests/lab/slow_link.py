"""A TCP link that is slow and stalls, between a client and a server: a proxy in this process, in a namespace.

Stands in for `tc netem`, which many kernels are built without. Every piece of data arrives `delay` seconds later, and some,
`stalls` of them, `STALL` seconds later still, as after a lost segment; what follows waits for it, as in TCP. Knows nothing of
Hostward.
"""

from __future__ import annotations

import asyncio
import random
import threading
from contextlib import suppress
from typing import Self

from tests.lab.netns import Namespace

STALL = 1.5  # seconds; what a first retransmission takes on a link with half a second each way
_PIECE = 65536


class SlowLink:
    """Listens at `port` of an address in a namespace, leads to `target` there. A context manager."""

    def __init__(
        self, namespace: Namespace, address: str, port: int, target: int, *, delay: float, stalls: float, seed: int
    ) -> None:
        self.url = f"http://{address}:{port}"
        self._namespace, self._address, self._port, self._target = namespace, address, port, target
        self._delay, self._stalls, self._rng = delay, stalls, random.Random(seed)
        self.pieces = self.stalled = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="slow-link", daemon=True)

    def _run(self) -> None:
        with self._namespace.entered():  # all sockets of this thread are there
            self._loop.run_until_complete(asyncio.start_server(self._connected, self._address, self._port))
            self._ready.set()
            self._loop.run_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(self._address, self._target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer), return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivery = asyncio.ensure_future(self._deliver(under_way, writer))
        try:
            while data := await reader.read(_PIECE):
                stalled = self._rng.random() < self._stalls
                self.pieces += 1
                self.stalled += stalled
                under_way.put_nowait((self._loop.time() + self._delay + STALL * stalled, data))
        finally:
            under_way.put_nowait((self._loop.time() + self._delay, b""))
            await delivery

    async def _deliver(self, under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await under_way.get()
            await asyncio.sleep(due - self._loop.time())
            if not data:
                writer.close()
                return
            with suppress(ConnectionError):
                writer.write(data)
                await writer.drain()

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(20):
            raise TimeoutError(f"nothing listens at {self.url}")
        return self

    def __exit__(self, *_: object) -> None:
        def end() -> None:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.call_later(0.1, self._loop.stop)

        self._loop.call_soon_threadsafe(end)
        self._thread.join(10)
        self._loop.close()
