"""The least that a change can cost with legacy iptables: etcd's event, and one commit of each family's table, read back.

A process of its own, in the twin's namespace. It knows beforehand which rule will be written where, keeps its bytes, compares
nothing and reads nothing before it writes. It uses the agent's own thin layer over libiptc and the socket options, the same
lock, and etcd3's raw messages; no selector, no policy, no plan.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from tests.lab.netns import Namespace

import hostward.datastore.etcd  # noqa: F401 # chooses protobuf's mode before etcd3 is imported
from benchmarks import workload
from benchmarks.bed import STORE
from hostward.dataplane.xtables.encode import Encoded, Encoder
from hostward.dataplane.xtables.libiptc import Handle
from hostward.dataplane.xtables.lock import XtablesLock
from hostward.dataplane.xtables.sockopt import TableSocket
from hostward.model import keys
from hostward.model.decode import decode
from hostward.model.resources import Policy
from hostward.model.settings import BUILT_IN
from hostward.render import names
from hostward.render.options import options
from hostward.render.policy import Owner, rules_chain
from hostward.render.ruleset import FAMILIES, Family, TableId

KEY = "/benchmark/floor"


class Floor:
    """The floor program in a namespace, ready when made. Use it in a `with`."""

    def __init__(self, namespace: Namespace, port: int, lock: Path) -> None:
        command = ["ip", "netns", "exec", namespace.name, sys.executable, "-m", "benchmarks.floor", str(port), str(lock)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            self.close()
            raise RuntimeError("the floor program did not start; its stderr says why")

    def done(self) -> tuple[float, float]:
        """Waits for one change; the seconds that its commits and read-backs took, and the CPU seconds of all of it."""
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


def _rule(*, opened: bool, family: Family) -> tuple[str, Encoded]:
    """The chain and the one rule of the changed policy, as the agent renders them."""
    path, document = workload.changed_policy(2, opened=opened)
    key = keys.parse(path)
    assert key is not None
    policy = decode(key, json.dumps(document).encode()).value
    assert isinstance(policy, Policy)
    owner = Owner("ingress", names.policy_title(policy.key), policy.tier, "gnp", policy.name)
    (rule,) = rules_chain(policy.ingress_rules, "filter", family, owner, options(BUILT_IN, ()))
    return names.policy_chain(policy.key, "ingress"), Encoder(family).encode(rule)


def _write(table: TableId, chain: str, rule: Encoded, *, opened: bool) -> None:
    """One commit, and a look whether the kernel has the rule now."""
    with Handle(table) as handle:
        handle.remove(chain, 0)
        handle.insert(chain, 0, rule.entry)
        handle.commit()
    with TableSocket(table.family) as tables:
        _, blob = tables.read(table)
    at = blob.find(rule.entry[handle.layout.header : -40])
    # A verdict is negative, a jump a place in the table; the last 8 bytes of an entry are either, and padding.
    if at < 0 or (blob[at + len(rule.entry) - handle.layout.header - 5] & 0x80 == 0) != opened:
        raise RuntimeError(f"table {table} has not the rule that was just written")


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


def main(port: int, lock_path: Path) -> None:
    """Follows the key: `open` or `closed`."""
    rules = {(opened, family): _rule(opened=opened, family=family) for opened in (True, False) for family in FAMILIES}
    lock = XtablesLock(lock_path, 10.0)
    used = time.process_time()
    for value in _events(port):
        began = time.perf_counter()
        opened = value == b"open"
        with lock.held():
            for family in FAMILIES:
                _write(TableId(family, "filter"), *rules[opened, family], opened=opened)
        took, before, used = time.perf_counter() - began, used, time.process_time()
        print(took, used - before, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
