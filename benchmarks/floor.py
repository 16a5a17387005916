"""The least that a change can cost with legacy iptables: etcd's event, and a commit of each table that differs, read back.

A process of its own, in the twin's namespace. It knows beforehand which entries will be written where and which members come
and go, keeps their bytes, compares nothing and reads nothing before it writes: for each table a libiptc handle and a commit,
for each set one netlink message, and after all commits one read of each table, whose changed entries must be there. The same
lock as the agent's, and etcd3's raw messages; no selector, no policy, no plan.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.lab.netns import Namespace

import hostward.datastore.etcd  # noqa: F401 # chooses protobuf's mode before etcd3 is imported
from benchmarks import dumps
from benchmarks import floor_edits as e
from benchmarks.bed import FAMILIES, STORE, Held
from hostward.dataplane.netlink import Netlink
from hostward.dataplane.xtables.lock import XtablesLock
from hostward.render.ruleset import TableId

KEY = "/benchmark/floor"
States = tuple[Held, Held]
"""Dumps of a case: closed, as the twin is when the floor program starts, and opened."""


class Floor:
    """The floor program in a namespace, ready when made. Use it in a `with`. `cases`: states by a name."""

    def __init__(self, namespace: Namespace, port: int, home: Path, cases: dict[str, States]) -> None:
        file = home / "floor.json"
        file.write_text(json.dumps(cases), encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.floor", str(port), str(home / "twin.lock"), str(file)]
        self._process = namespace.popen(*command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            self.close()
            raise RuntimeError("the floor program did not start; its stderr says why")

    def done(self) -> tuple[float, float]:
        """Waits for one change; the seconds that its writes and read-backs took, and the CPU seconds of all of it."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the floor program ended; its stderr says why")
        took, used = map(float, line.split())
        return took, used

    def close(self) -> None:
        """Ends the program."""
        self._process.kill()
        self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class _Way:
    """One direction of a case."""

    tables: dict[TableId, list[e.ChainEdit]]
    checks: dict[TableId, e.Check]
    sets: e.SetWriter


class _Case:
    """Both directions. Making one tries them, in the namespace that the thread is in."""

    def __init__(self, closed: Held, opened: Held, socket: Netlink) -> None:
        there = self._entries(closed, opened)
        self._by_tool(closed, opened)
        here = self._entries(closed, opened)
        self._by_tool(opened, closed)
        ways = []
        for old, new, before, after in ((there, here, closed, opened), (here, there, opened, closed)):
            changed = {table: e.edits(old[table], new[table], table) for table in old}
            sets = e.SetWriter(before[2], after[2], e.families_of(after[2]))
            ways.append(_Way(changed, {}, sets))
        self.opening, self.closing = ways
        for way in ways:
            self.write(way, socket)
            way.checks = {table: e.Check(table.family, e.look(table)) for table in way.tables}
        for way, other in (ways, ways[::-1]):
            for table, check in way.checks.items():
                check.narrow(other.checks[table])

    @staticmethod
    def _by_tool(before: Held, after: Held) -> None:
        for (tool, _), old, new in zip(FAMILIES, before, after, strict=False):
            if changed := dumps.differences(old, new):
                subprocess.run([f"{tool}-restore", "--noflush"], input=dumps.script(changed), text=True, check=True, timeout=60)

    @staticmethod
    def _entries(closed: Held, opened: Held) -> dict[TableId, e.Entries]:
        """Of every table that differs, the chains that do, as they are now."""
        return {
            e.table_id(family, table): e.read(e.table_id(family, table), sorted(difference.chains))
            for (_, family), old, new in zip(FAMILIES, closed, opened, strict=False)
            for table, difference in dumps.differences(old, new).items()
        }

    def write(self, way: _Way, socket: Netlink) -> None:
        """Everything of one direction."""
        way.sets.write(socket)
        for table, todo in way.tables.items():
            e.commit(table, todo)
        for table, check in way.checks.items():
            if not check.holds(e.look(table)):
                raise RuntimeError(f"table {table} has not what was just written")


def _events(port: int) -> Iterator[bytes]:
    import grpc  # noqa: PLC0415 # after protobuf's mode is chosen
    from etcd3 import etcdrpc  # noqa: PLC0415 # the same

    channel = grpc.insecure_channel(f"{STORE}:{port}")
    create = etcdrpc.WatchRequest(create_request=etcdrpc.WatchCreateRequest(key=KEY.encode()))

    def requests() -> Iterator[Any]:
        yield create
        while True:
            time.sleep(3600)  # the end of the requests would be the end of the watch

    for response in etcdrpc.WatchStub(channel).Watch(requests()):
        if response.created:
            print("ready", flush=True)
        for event in response.events:
            yield event.kv.value


def main(port: int, lock_path: Path, file: Path) -> None:
    """Follows the key: a case, a blank, and `open` or `closed`."""
    socket = e.opened_socket()
    cases = {
        name: _Case(tuple(closed), tuple(opened), socket) for name, (closed, opened) in json.loads(file.read_text()).items()
    }
    lock = XtablesLock(lock_path, 10.0)
    used = time.process_time()
    for value in _events(port):
        began = time.perf_counter()
        name, _, state = value.decode().rpartition(" ")
        case = cases[name]
        with lock.held():
            case.write(case.opening if state == "open" else case.closing, socket)
        took, before, used = time.perf_counter() - began, used, time.process_time()
        print(took, used - before, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
