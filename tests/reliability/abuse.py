"""Clients that mean no good, as a program of their own: `abuse.py HOST PORT SECONDS`; what came of it as JSON on stdout.

A thousand connections that say nothing and come again when they are closed, fifty requests that trickle in byte by byte,
megabytes of headers, and a hundred scrapes a second.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

IDLE, SLOW, BIG, SCRAPES = 1000, 50, 5, 100
REQUEST = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"


class Abuse:
    """All clients of one address until a deadline."""

    def __init__(self, host: str, port: int, seconds: float) -> None:
        self.host, self.port, self.until = host, port, time.monotonic() + seconds
        self.seen: Counter[str] = Counter()
        self.slowest = 0.0

    async def again(self, client: Coroutine[Any, Any, None]) -> None:
        with suppress(OSError, asyncio.TimeoutError):
            await client

    async def loop(self, what: str, pause: float) -> None:
        while time.monotonic() < self.until:
            await self.again(getattr(self, what)())
            await asyncio.sleep(pause)

    async def idle(self) -> None:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(self.host, self.port), 5)
        self.seen["idle"] += 1
        try:
            await asyncio.wait_for(reader.read(1), 5)
        finally:
            writer.close()

    async def slow(self) -> None:
        _, writer = await asyncio.wait_for(asyncio.open_connection(self.host, self.port), 5)
        self.seen["slow"] += 1
        try:
            for byte in REQUEST + b"X: " + b"x" * 1000:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.1)
                if time.monotonic() > self.until:
                    return
        finally:
            writer.close()

    async def big(self) -> None:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(self.host, self.port), 5)
        self.seen["big"] += 1
        try:
            writer.write(REQUEST + b"X: " + b"x" * 1_000_000)
            self.seen["big refused"] += (await asyncio.wait_for(reader.read(64), 5)).startswith(b"HTTP/1.1 431")
        finally:
            writer.close()

    async def scrape(self) -> None:
        began = time.monotonic()
        reader, writer = await asyncio.wait_for(asyncio.open_connection(self.host, self.port), 5)
        self.seen["scrapes"] += 1
        try:
            writer.write(REQUEST + b"\r\n")
            answer = await asyncio.wait_for(reader.read(), 5)
            self.seen["scrapes answered"] += answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"\n")
            self.slowest = max(self.slowest, time.monotonic() - began)
        finally:
            writer.close()

    async def scrapes(self) -> None:
        running = set()
        while time.monotonic() < self.until:
            task = asyncio.create_task(self.again(self.scrape()))
            running.add(task)
            task.add_done_callback(running.discard)
            await asyncio.sleep(1 / SCRAPES)

    async def run(self) -> None:
        idle = [self.loop("idle", 2) for _ in range(IDLE)]
        slow = [self.loop("slow", 0.1) for _ in range(SLOW)]
        big = [self.loop("big", 0.1) for _ in range(BIG)]
        clients = [asyncio.create_task(client) for client in (*idle, *slow, *big)]
        await self.scrapes()
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    abuse = Abuse(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    asyncio.run(abuse.run())
    print(json.dumps({**abuse.seen, "slowest scrape": round(abuse.slowest, 3)}))
