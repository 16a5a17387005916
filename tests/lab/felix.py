"""Felix's rules as it leaves them on a host with one host endpoint, and its habit to come first: for tests of living beside it.

The shape is Felix's own (enforcement 4.4, 4.5): a jump at the top of each kernel chain, the accept at FORWARD's end, a
comment `cali:…` on each rule, sets named cali40s:…. Ports 80 for all and 81 for a set are open, 82 is denied before DNAT: what
`Site.guard` asks for. Both IP versions.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from tests.lab.netns import Namespace

SET = "cali{}0s:5y5I3VdRZfDU01O--xXAPx2"
ACCEPTED, CLEAR = "-m mark --mark 0x10000/0x10000", "-j MARK --set-xmark 0x0/0x1b0000"
OPEN = "-m conntrack --ctstate RELATED,ESTABLISHED"
FAILSAFE_IN = (("tcp", 22), ("udp", 68), ("tcp", 179), ("tcp", 2379), ("tcp", 2380), ("tcp", 5473), ("tcp", 6443))
FAILSAFE_OUT = (("udp", 53), ("udp", 67), ("tcp", 179), ("tcp", 2379), ("tcp", 2380), ("tcp", 5473), ("tcp", 6443))
DISCOVERY = (130, 131, 132, 133, 134, 135, 136)
HOOKS = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "POSTROUTING"),
    "nat": ("PREROUTING", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
}


def _failsafe(chain: str, ports: Iterable[tuple[str, int]], side: str = "--dport") -> list[str]:
    return [f"-A {chain} -p {protocol} -m {protocol} {side} {port} -j ACCEPT" for protocol, port in ports]


def _raw() -> list[str]:
    return [
        f"-A cali-PREROUTING {CLEAR}",
        "-A cali-PREROUTING -j cali-from-host-endpoint",
        f"-A cali-PREROUTING {ACCEPTED} -j ACCEPT",
        f"-A cali-OUTPUT {CLEAR}",
        "-A cali-OUTPUT -j cali-to-host-endpoint",
        f"-A cali-OUTPUT {ACCEPTED} -j ACCEPT",
    ]


def _mangle(interface: str) -> list[str]:
    return [
        f"-A cali-PREROUTING {OPEN} -j ACCEPT",
        f"-A cali-PREROUTING {ACCEPTED} -j ACCEPT",
        "-A cali-PREROUTING -j cali-from-host-endpoint",
        f"-A cali-PREROUTING {ACCEPTED} -j ACCEPT",
        f"-A cali-POSTROUTING {ACCEPTED} -j RETURN",
        f"-A cali-POSTROUTING {CLEAR}",
        "-A cali-POSTROUTING -m conntrack --ctstate DNAT -j cali-to-host-endpoint",
        f"-A cali-from-host-endpoint -i {interface} -g cali-fh-{interface}",
        f"-A cali-fh-{interface} {OPEN} -j ACCEPT",
        f"-A cali-fh-{interface} -j cali-failsafe-in",
        f"-A cali-fh-{interface} -j cali-pi-default.early",
        *_failsafe("cali-failsafe-in", FAILSAFE_IN),
        "-A cali-pi-default.early -p tcp -m multiport --dports 82 -j DROP",
    ]


def _filter(version: int, interface: str, udp: Iterable[int]) -> list[str]:
    inside, outside = f"cali-fh-{interface}", f"cali-th-{interface}"
    discovery = [
        f"-A {chain} -p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j ACCEPT"
        for kind in DISCOVERY
        for chain in (inside, outside)
        if version == 6
    ]
    return [
        f"-A cali-INPUT {ACCEPTED} -j ACCEPT",
        f"-A cali-INPUT {CLEAR}",
        "-A cali-INPUT -j cali-from-host-endpoint",
        f"-A cali-INPUT {ACCEPTED} -j ACCEPT",
        f"-A cali-OUTPUT {ACCEPTED} -j ACCEPT",
        f"-A cali-OUTPUT {CLEAR}",
        "-A cali-OUTPUT -m conntrack ! --ctstate DNAT -j cali-to-host-endpoint",
        f"-A cali-OUTPUT {ACCEPTED} -j ACCEPT",
        "-A cali-FORWARD -j MARK --set-xmark 0x0/0xe0000",
        "-A cali-FORWARD -m mark --mark 0x0/0x10000 -j cali-from-hep-forward",
        "-A cali-FORWARD -j cali-to-hep-forward",
        f"-A cali-from-host-endpoint -i {interface} -g {inside}",
        f"-A cali-to-host-endpoint -o {interface} -g {outside}",
        f"-A cali-from-hep-forward -i {interface} -g cali-fhfw-{interface}",
        f"-A cali-to-hep-forward -o {interface} -g cali-thfw-{interface}",
        f"-A cali-fhfw-{interface} -j MARK --set-xmark 0x10000/0x10000",
        f"-A cali-thfw-{interface} -j MARK --set-xmark 0x10000/0x10000",
        *discovery,
        *(f"-A {chain} {OPEN} -j ACCEPT" for chain in (inside, outside)),
        *(f"-A {chain} -m conntrack --ctstate INVALID -j DROP" for chain in (inside, outside)),
        f"-A {inside} -j cali-failsafe-in",
        f"-A {outside} -j cali-failsafe-out",
        f"-A {inside} -j MARK --set-xmark 0x0/0x30000",
        *(
            rule
            for name in ("web", "friends")
            for rule in (
                f"-A {inside} -m mark --mark 0x0/0x20000 -j cali-pi-default.{name}",
                f"-A {inside} {ACCEPTED} -j RETURN",
            )
        ),
        f"-A {inside} -m mark --mark 0x0/0x20000 -j DROP",
        f"-A {outside} -j DROP",
        "-A cali-pi-default.web -p tcp -m multiport --dports 80 -j MARK --set-xmark 0x10000/0x10000",
        *(f"-A cali-pi-default.web -p udp -m multiport --dports {port} -j MARK --set-xmark 0x10000/0x10000" for port in udp),
        f"-A cali-pi-default.friends -p tcp -m set --match-set {SET.format(version)} src -m multiport --dports 81 "
        "-j MARK --set-xmark 0x10000/0x10000",
        *_failsafe("cali-failsafe-in", FAILSAFE_IN),
        *_failsafe("cali-failsafe-out", FAILSAFE_OUT),
    ]


def _nat(masquerade: str) -> list[str]:
    outgoing = [f"-A cali-nat-outgoing -s {masquerade} -j MASQUERADE --random-fully"] if masquerade else []
    return [
        "-A cali-PREROUTING -j cali-fip-dnat",
        "-A cali-OUTPUT -j cali-fip-dnat",
        "-A cali-POSTROUTING -j cali-fip-snat",
        "-A cali-POSTROUTING -j cali-nat-outgoing",
        *outgoing,
    ]


def text(version: int, interface: str, masquerade: str = "", udp: Iterable[int] = ()) -> str:
    """What its iptables-restore is fed, without what is at the top and end of the kernel's chains."""
    own = {"raw": _raw(), "mangle": _mangle(interface), "nat": _nat(masquerade), "filter": _filter(version, interface, udp)}
    lines: list[str] = []
    for table, rules in own.items():
        names = {word for rule in rules for word in rule.split() if word.startswith("cali-")}
        lines += [f"*{table}", *(f":{name} - [0:0]" for name in sorted(names)), *map(_named, rules), "COMMIT"]
    return "\n".join([*lines, ""])


def _named(rule: str) -> str:
    """With the comment that Felix recognises it by, a hash of the rule (H-82; ours is another hash)."""
    chain, rest = rule.removeprefix("-A ").split(" ", 1)
    return f'-A {chain} -m comment --comment "cali:{sha256(rule.encode()).hexdigest()[:16]}" {rest}'


class Felix:
    """Felix on one host, as far as its kernel state goes. `start` programs it, `assert_itself` puts its rules back first."""

    def __init__(
        self,
        host: Namespace,
        lock_file: Path,
        interface: str = "eth0",
        *,
        masquerade: tuple[str, str] = ("", ""),
        udp: Iterable[int] = (),
        variant: str = "legacy",
    ) -> None:
        self.host, self.lock_file, self.interface, self.masquerade, self.udp = host, lock_file, interface, masquerade, udp
        self.variant = variant
        self.reinserted = 0

    def start(self, members: tuple[str, str]) -> None:
        """Everything of its, first in the kernel's chains; `members`: a member of the set, per version."""
        for version, member in zip((4, 6), members, strict=True):
            name, family = SET.format(version), "inet" if version == 4 else "inet6"
            self.host.run("ipset", "-exist", "create", name, "hash:net", "family", family, "maxelem", "1048576")
            self.host.run("ipset", "-exist", "add", name, member)
            self._restore(version, text(version, self.interface, self.masquerade[version == 6], self.udp))
        self.assert_itself()

    def assert_itself(self) -> bool:
        """Looks at the kernel's chains, and where its rules aren't first (H-86) puts them there; whether it had to."""
        changed = False
        for version in (4, 6):
            lines: list[str] = []
            for table, chains in HOOKS.items():
                edits = [line for chain in chains for line in self._edits(version, table, chain)]
                lines += [f"*{table}", *edits, "COMMIT"] if edits else []
            if lines:
                changed = True
                self._restore(version, "\n".join([*lines, ""]))
        self.reinserted += changed
        return changed

    def _edits(self, version: int, table: str, chain: str) -> list[str]:
        rules = self._tool(version, "-t", table, "-S", chain).splitlines()[1:]
        jump, end = _named(f"-A {chain} -j cali-{chain}"), _named(f"-A {chain} {ACCEPTED} -j ACCEPT")
        if rules and rules[0] == jump:
            return []
        removed = [f"-D{rule[2:]}" for rule in rules if '"cali:' in rule]
        return [*removed, jump.replace("-A", "-I", 1), *([end] if chain == "FORWARD" else [])]

    def _tool(self, version: int, *words: str) -> str:
        tool = f"iptables-{self.variant}" if version == 4 else f"ip6tables-{self.variant}"
        return self.host.run("env", f"XTABLES_LOCKFILE={self.lock_file}", tool, "-w", "10", *words)

    def _restore(self, version: int, script: str) -> None:
        tool = f"iptables-{self.variant}-restore" if version == 4 else f"ip6tables-{self.variant}-restore"
        self.host.run("env", f"XTABLES_LOCKFILE={self.lock_file}", tool, "--noflush", "-w", "10", data=script)

    @contextmanager
    def insisting(self, every: float) -> Iterator[None]:
        """Puts its rules back first every so many seconds, in a thread."""
        stop = threading.Event()

        def insist() -> None:
            while not stop.wait(every):
                self.assert_itself()

        thread = threading.Thread(target=insist)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
