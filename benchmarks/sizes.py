"""How large the workloads are: numbers only. What is made of them is `workload`'s."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """Policies, interfaces with a host endpoint, interfaces of workloads, and network sets with all their members together."""

    name: str
    policies: int
    hosts: int
    workloads: int
    sets: int
    members: int

    @property
    def text(self) -> str:
        """For people."""
        return (
            f"{self.policies:,} policies, {self.hosts} host and {self.workloads:,} workload interfaces, "
            f"{self.members:,} members in {self.sets:,} network sets"
        )


SIZES = {
    size.name: size
    for size in (
        Size("tiny", 8, 2, 6, 2, 40),  # says nothing: it shows that everything runs
        Size("small", 10, 2, 20, 2, 1_000),
        Size("medium", 1_000, 2, 500, 100, 10_000),
        Size("large", 5_000, 10, 1_000, 1_000, 50_000),
        Size("moonshot", 10_000, 10, 990, 1_000, 100_000),
    )
}
TINY = SIZES["tiny"]
