"""Several etcd servers that form a cluster, for tests in which its leader moves or dies."""

from __future__ import annotations

import json
from typing import Any, Self

from tests.lab.etcd import Etcd, free_ports
from tests.lab.netns import Namespace


class EtcdCluster:
    """`count` members at one address. A context manager; leaving it kills all and removes their data."""

    def __init__(self, namespace: Namespace | None = None, address: str = "127.0.0.1", count: int = 3) -> None:
        free = [23_000 + number for number in range(2 * count)] if namespace else free_ports(2 * count)
        ports = list(zip(free[::2], free[1::2], strict=True))
        together = ",".join(f"m{number}=http://{address}:{peer}" for number, (_, peer) in enumerate(ports))
        options = ["--initial-cluster", together, "--heartbeat-interval", "50", "--election-timeout", "500"]
        self.members = [
            Etcd(namespace, address, name=f"m{number}", ports=pair, options=options, start=False)
            for number, pair in enumerate(ports)
        ]

    @property
    def env(self) -> dict[str, str]:
        """Environment variables that make an agent or a command use all members."""
        return {"ETCD_ENDPOINTS": ",".join(member.url for member in self.members)}

    def leader(self) -> Etcd:
        """The member that leads."""
        return self._by_id()[self._leader_id()]

    def move_leader(self) -> Etcd:
        """Makes the next member the leader, in order; the new one."""
        members, old = self._by_id(), self._leader_id()
        following = self.members[(self.members.index(members[old]) + 1) % len(self.members)]
        (number,) = [number for number, member in members.items() if member is following]
        members[old].ctl("move-leader", f"{number:x}")
        return following

    def _status(self) -> list[dict[str, Any]]:
        alive = next(member for member in self.members if member.process is not None)
        found: list[dict[str, Any]] = json.loads(alive.ctl("endpoint", "status", "--cluster", "-w", "json"))
        return found

    def _leader_id(self) -> int:
        leader: int = self._status()[0]["Status"]["leader"]
        return leader

    def _by_id(self) -> dict[int, Etcd]:
        urls = {member.url: member for member in self.members}
        return {one["Status"]["header"]["member_id"]: urls[one["Endpoint"]] for one in self._status()}

    def __enter__(self) -> Self:
        try:
            for member in self.members:
                member.launch()
            for member in self.members:
                member.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kills all members and removes their data."""
        for member in self.members:
            member.close()
