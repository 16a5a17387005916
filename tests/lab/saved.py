"""What a namespace's packet filter holds, as the system's own tools print it: rules and sets, in a form that compares.

Counters, comments of the tools and what the kernel draws at random for a set are left out. Knows nothing of Hostward.
"""

from __future__ import annotations

import re

from tests.lab.netns import Namespace

TOOLS = ("iptables-legacy-save", "ip6tables-legacy-save")
_COUNTERS = re.compile(r"\[\d+:\d+\]")
_CHANCE = re.compile(r" (hashsize|initval|bucketsize) \S+")


def rules(namespace: Namespace) -> dict[str, list[str]]:
    """Per table ("filter/v4") the lines of iptables-save, in order."""
    found: dict[str, list[str]] = {}
    for version, tool in zip((4, 6), TOOLS, strict=True):
        table = ""
        for line in namespace.run(tool).splitlines():
            if line.startswith("*"):
                table = f"{line[1:]}/v{version}"
                found[table] = []
            elif not line.startswith("#") and line != "COMMIT":
                found[table].append(_COUNTERS.sub("", line).strip())
    return {table: sorted(lines, key=_by_chain) for table, lines in found.items()}


def _by_chain(line: str) -> list[str]:
    """Chains come in the order in which they were made, which says nothing; the rules of one keep theirs."""
    return line.split(" ")[:2] if line.startswith("-") else [":", line]


def used_rules(namespace: Namespace) -> dict[str, list[str]]:
    """As `rules`, without tables that hold nothing: reading a table is enough to make the kernel list it."""
    return {
        table: lines
        for table, lines in rules(namespace).items()
        if any(line.startswith("-") or not re.search(r"ACCEPT$", line) for line in lines)
    }


def sets(namespace: Namespace) -> list[str]:
    """The lines of `ipset save`, sorted."""
    return sorted(_CHANCE.sub("", line).strip() for line in namespace.run("ipset", "save").splitlines())


def everything(namespace: Namespace) -> dict[str, list[str]]:
    """Rules and sets: equal for two namespaces whose packet filters are the same."""
    return {**used_rules(namespace), "sets": sets(namespace)}


def packets(namespace: Namespace, rule: str, version: int = 4) -> int:
    """The packet counter of the first rule that iptables-save prints with this text in it."""
    for line in namespace.run(TOOLS[version == 6], "-c").splitlines():
        if rule in line and line.startswith("["):
            return int(line[1:].partition(":")[0])
    raise AssertionError(f"no rule with {rule!r}")
