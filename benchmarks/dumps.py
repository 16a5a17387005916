"""What `iptables-save` and `ipset save` print, as values; what differs between two, and the script that makes it so. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Chains = dict[str, list[str]]
Tables = dict[str, Chains]


def tables(text: str) -> Tables:
    """Table to chain to rules, each as it is after `-A CHAIN `."""
    found: Tables = {}
    chains: Chains = {}
    for line in text.splitlines():
        match line[:1]:
            case "*":
                chains = found.setdefault(line[1:], {})
            case ":":
                chains[line[1:].partition(" ")[0]] = []
            case "-":
                _, chain, rule = line.split(" ", 2) if line.count(" ") > 1 else (*line.split(" "), "")
                chains[chain].append(rule)
    return found


def rules(text: str) -> int:
    """How many rules a dump holds."""
    return sum(line.startswith("-A") for line in text.splitlines())


@dataclass(frozen=True)
class Difference:
    """The chains of one table that differ: their new rules, or None where the chain is gone."""

    chains: Mapping[str, list[str] | None] = field(default_factory=dict)


def differences(before: str, after: str) -> dict[str, Difference]:
    """By table, where there are any."""
    old, new = tables(before), tables(after)
    found = {}
    for table, chains in new.items():
        there = old.get(table, {})
        changed: dict[str, list[str] | None] = {name: rules for name, rules in chains.items() if there.get(name) != rules}
        changed |= dict.fromkeys(there.keys() - chains.keys())
        if changed:
            found[table] = Difference(changed)
    return found


def script(changed: Mapping[str, Difference]) -> str:
    """Input for `iptables-restore --noflush`: the chains that differ, whole, as Felix writes them."""
    lines = []
    for table, difference in changed.items():
        lines.append(f"*{table}")
        kept = {name: rules for name, rules in difference.chains.items() if rules is not None}
        lines += [f":{name} - [0:0]" if not _is_kernels(name) else f"-F {name}" for name in kept]
        lines += [f"-A {name} {rule}" for name, rules in kept.items() for rule in rules]
        lines += [f"-F {name}\n-X {name}" for name, rules in difference.chains.items() if rules is None]
        lines.append("COMMIT")
    return "".join(f"{line}\n" for line in lines)


def _is_kernels(chain: str) -> bool:
    return chain in ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")


def members(text: str) -> dict[str, set[str]]:
    """Set to members of an `ipset save`."""
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        words = line.split(" ")
        if words[0] == "create":
            found[words[1]] = set()
        elif words[0] == "add":
            found[words[1]].add(words[2])
    return found


def set_script(before: str, after: str) -> str:
    """Input for `ipset restore` that makes the members of the sets in both what they were afterwards."""
    old, new = members(before), members(after)
    return "".join(_member_lines(old, new, old.keys() & new.keys()))


def _member_lines(old: Mapping[str, set[str]], new: Mapping[str, set[str]], names: Iterable[str]) -> Iterable[str]:
    for name in sorted(names):
        yield from (f"add {name} {member}\n" for member in sorted(new[name] - old[name]))
        yield from (f"del {name} {member}\n" for member in sorted(old[name] - new[name]))
