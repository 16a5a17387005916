"""The packets and bytes that rules have counted, summed up as metrics show them: by drop, by policy, by failsafe port.

Bounded, whoever writes how many policies. Only the engine thread changes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from hostward.report.counters import Growth

MOST_POLICIES: Final = 1000
MOST_ABSENT: Final = 10_000
OTHER: Final = "other"


class Drop(NamedTuple):
    """Packets that one reason dropped on one interface, in one direction ("ingress", "egress", ...)."""

    interface: str
    direction: str
    reason: str


class PolicyLabels(NamedTuple):
    """A policy as users know it (gnp/NAME, np/NAMESPACE/NAME, pro/NAME), a direction, and what its rules did there."""

    tier: str
    policy: str
    direction: str
    action: str


class Title(NamedTuple):
    """What a policy's rules are known by in render: its tier, and its name for users."""

    tier: str
    policy: str


class Amount(NamedTuple):
    """How much traffic."""

    packets: int
    bytes: int


_Amounts = dict[tuple[str, str], Amount]  # by direction and action


class Traffic:
    """Totals since the start of the agent, and of what the kernel had counted before."""

    def __init__(self, most_policies: int = MOST_POLICIES) -> None:
        self.drops: dict[Drop, int] = {}
        self.failsafes: dict[tuple[str, str], int] = {}
        self._policies: dict[str, _Amounts] = {}
        self._titles: dict[str, Title] = {OTHER: Title(OTHER, OTHER)}
        self._most = most_policies
        self._has_looked = False  # for policies that are gone, in this `take`

    def take(
        self, grown: Mapping[str, Growth], titles: Mapping[str, Title], meanings: Callable[[], Iterable[str]] = tuple
    ) -> None:
        """Adds what grew. `titles`: the policies in force, by what their rules call them; `meanings`: all that is counted."""
        self._titles = {title: titles.get(title, old) for title, old in self._titles.items()}  # it may have another tier now
        self._has_looked = False
        for meaning, growth in grown.items():
            match meaning.split(" ", 3):
                case ["drop", interface, direction, reason]:
                    self._count(_drop(interface, direction, reason), growth.packets)
                case ["policy", direction, action, title]:
                    self._add(title, (direction, action), growth, titles)
                    if action == "deny":  # policies are shared by interfaces: which one a packet came by isn't known
                        self._count(Drop("*", direction, "policy"), growth.packets)
                case ["failsafe", direction, protocol]:
                    self.failsafes[direction, protocol] = self.failsafes.get((direction, protocol), 0) + growth.packets
        if len(self.drops) > MOST_ABSENT:  # interfaces come and go for ever, memory doesn't grow for ever
            present = {_drop(*meaning.split(" ")[1:]) for meaning in meanings() if meaning.startswith("drop ")}
            self.drops = {drop: packets for drop, packets in self.drops.items() if drop in present or drop.interface == "*"}

    def policies(self) -> dict[PolicyLabels, Amount]:
        """Packets and bytes by policy, direction and action."""
        return {
            PolicyLabels(*self._titles[title], *place): amount
            for title, amounts in self._policies.items()
            for place, amount in amounts.items()
        }

    def _count(self, drop: Drop, packets: int) -> None:
        self.drops[drop] = self.drops.get(drop, 0) + packets

    def _add(self, title: str, place: tuple[str, str], growth: Growth, titles: Mapping[str, Title]) -> None:
        if title not in self._titles and not self._may_name(title, titles):
            title = OTHER
        amounts = self._policies.setdefault(title, {})
        packets, octets = amounts.get(place, (0, 0))
        amounts[place] = Amount(packets + growth.packets, octets + growth.bytes)

    def _may_name(self, title: str, titles: Mapping[str, Title]) -> bool:
        """Gives a policy that is in force series of its own, if need be those of one that is gone."""
        if title not in titles:
            return False
        if len(self._titles) > self._most and not self._has_looked:
            self._has_looked = True
            for gone in [known for known in self._titles if known != OTHER and known not in titles]:
                del self._titles[gone]
                self._policies.pop(gone, None)
        if len(self._titles) > self._most:
            return False
        self._titles[title] = titles[title]
        return True


def _drop(interface: str, direction: str, reason: str) -> Drop:
    """An interface's name may be any bytes; a label must be text."""
    return Drop(interface.encode(errors="surrogateescape").decode(errors="backslashreplace"), direction, reason)


def title_of(tier: str, policy: str) -> Title:
    """Names are what a document says, half a character if it says that; labels must be text."""
    return Title(*(text.encode(errors="backslashreplace").decode() for text in (tier, policy)))
