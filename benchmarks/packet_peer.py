"""Felix-shaped chains: an emulated peer for `packets`, written by hand from how Felix lays its chains out. It is not Felix.

What is as in Felix: marks that every step sets, tests and clears; a comment on every rule, first; connection state looked at in
the interface's chain, after dispatch; policies in chains of their own, grouped, each jump guarded by the marks and a RETURN
after every fifth; sets before ports. Left out, so the peer is cheaper than Felix itself: mangle and nat chains, flow logs.
Pure text.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1

from benchmarks.packet_dispatch import tree
from benchmarks.packet_policies import Shape, words
from hostward.render.ruleset import Family

ACCEPT, PASS, BOTH, CLEAR = "0x10000/0x10000", "0x20000/0x20000", "0x0/0x30000", "0x0/0xf0000"
FAILSAFE = (("tcp", 22), ("udp", 68), ("tcp", 179), ("tcp", 2379), ("tcp", 2380), ("tcp", 5473), ("tcp", 6443),
            ("tcp", 6666), ("tcp", 6667))  # fmt: skip
ACCEPTED = f"-m mark --mark {ACCEPT}"


def _noted(rule: str) -> str:
    """A rule with its comment: of 16 characters, and before every other match but the header's."""
    head, _, chain = rule.partition(" ")
    chain, _, rest = chain.partition(" ")
    note = f'-m comment --comment "cali:{sha1(rule.encode(), usedforsecurity=False).hexdigest()[:16]}"'
    at = min((rest.find(word) for word in ("-m ", "-j ", "-g ") if word in rest), default=0)
    return f"{head} {chain} {rest[:at]}{note} {rest[at:]}"


def chains(
    interfaces: Sequence[str], guarded: Sequence[str], hosts: Sequence[str], policies: Sequence[Shape], family: Family = 4
) -> str:
    """For iptables-restore. `interfaces`: all workloads'; `guarded`: those with the policies; `hosts`: the first has them."""
    raw = [
        "-A PREROUTING -j cali-PREROUTING",
        f"-A cali-PREROUTING -j MARK --set-xmark {CLEAR}",
        "-A cali-PREROUTING -i cali+ -j MARK --set-xmark 0x40000/0x40000",
        "-A cali-PREROUTING -m mark --mark 0x40000/0x40000 -m rpfilter --invert --validmark -j DROP",
        "-A cali-PREROUTING -m mark --mark 0x0/0x40000 -j cali-from-host-endpoint",
        f"-A cali-PREROUTING {ACCEPTED} -j ACCEPT",
    ]
    rules = [*_roots(hosts, family)]
    rules += tree("cali-from-wl-dispatch", "-i", {name: f"cali-fw-{name}" for name in interfaces}, "-j DROP", levels=1)
    rules += tree("cali-to-wl-dispatch", "-o", {name: f"cali-tw-{name}" for name in interfaces}, "-j DROP", levels=1)
    for name in interfaces:
        rules += _endpoint(f"cali-tw-{name}", "")
        rules += _endpoint(f"cali-fw-{name}", "cali-go-packets" if name in guarded else "", tunnels=True)
    for host in hosts:
        rules += _endpoint(f"cali-fh-{host}", "cali-gi-packets" if host == hosts[0] else "", failsafe=True)
    rules += [f"-A cali-failsafe-in -p {protocol} -m multiport --dports {port} -j ACCEPT" for protocol, port in FAILSAFE]
    for group, prefix, side in (("cali-go-packets", "cali-po", "dst"), ("cali-gi-packets", "cali-pi", "src")):
        rules += _group(group, prefix, policies)
        for shape in policies:
            said = words(shape, side, family)
            rules += [f"-A {prefix}-{shape.number} {said.header}{said.in_set}{said.ports} -j MARK --set-xmark {ACCEPT}"]
            rules += [f"-A {prefix}-{shape.number} {ACCEPTED} -j RETURN"]
    return _table("raw", raw, ("cali-from-host-endpoint",)) + _table(
        "filter", rules, ("cali-from-hep-forward", "cali-to-hep-forward")
    )


def _roots(hosts: Sequence[str], family: Family) -> list[str]:
    return [
        "-A FORWARD -j cali-FORWARD",
        f"-A FORWARD {ACCEPTED} -j ACCEPT",
        f"-A FORWARD -j MARK --set-xmark {ACCEPT}",
        "-A INPUT -j cali-INPUT",
        "-A cali-FORWARD -j MARK --set-xmark 0x0/0xe0000",
        "-A cali-FORWARD -m mark --mark 0x0/0x10000 -j cali-from-hep-forward",
        "-A cali-FORWARD -i cali+ -j cali-from-wl-dispatch",
        "-A cali-FORWARD -o cali+ -j cali-to-wl-dispatch",
        "-A cali-FORWARD -j cali-to-hep-forward",
        *(["-A cali-INPUT -p ipv6-icmp -j ACCEPT"] if family == 6 else []),  # not Felix's, but host0 needs its neighbours
        "-A cali-INPUT -i cali+ -g cali-wl-to-host",
        f"-A cali-INPUT {ACCEPTED} -j ACCEPT",
        f"-A cali-INPUT -j MARK --set-xmark {CLEAR}",
        "-A cali-INPUT -j cali-from-host-endpoint",
        f"-A cali-INPUT {ACCEPTED} -j ACCEPT",
        "-A cali-wl-to-host -j cali-from-wl-dispatch",
        "-A cali-wl-to-host -j DROP",
        *(f"-A cali-from-host-endpoint -i {host} -g cali-fh-{host}" for host in hosts),
    ]


def _endpoint(chain: str, group: str, *, tunnels: bool = False, failsafe: bool = False) -> list[str]:
    found = [
        f"-A {chain} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        f"-A {chain} -m conntrack --ctstate INVALID -j DROP",
        *([f"-A {chain} -j cali-failsafe-in"] if failsafe else []),
        f"-A {chain} -j MARK --set-xmark 0x0/0x30000",
    ]
    if tunnels:
        found += [f"-A {chain} -p udp -m multiport --dports 4789 -j DROP", f"-A {chain} -p ipencap -j DROP"]
    if group:
        found += [
            f"-A {chain} -j MARK --set-xmark 0x0/0x20000",
            f"-A {chain} -m mark --mark 0x0/0x20000 -j {group}",
            f"-A {chain} {ACCEPTED} -j RETURN",
            f"-A {chain} -m mark --mark 0x0/0x20000 -j DROP",
        ]
    return [*found, f"-A {chain} -j DROP"]


def _group(chain: str, prefix: str, policies: Sequence[Shape]) -> list[str]:
    found = []
    for place, shape in enumerate(policies):
        if place and place % 5 == 0:
            found.append(f"-A {chain} -m mark ! --mark {BOTH} -j RETURN")
        found.append(f"-A {chain} -m mark --mark {BOTH} -j {prefix}-{shape.number}")
    return found


def _table(name: str, rules: Sequence[str], more: Sequence[str]) -> str:
    chains = dict.fromkeys([*(rule.split(" ")[1] for rule in rules), *more])
    kernel = ("PREROUTING", "INPUT", "FORWARD")
    heads = [f":{chain} {'ACCEPT' if chain in kernel else '-'} [0:0]" for chain in chains]
    return "\n".join([f"*{name}", *heads, *map(_noted, rules), "COMMIT", ""])
