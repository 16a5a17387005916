"""The hand-written optimum: the best layout that legacy iptables is known to allow for the same policies (floor of `packets`).

Open connections and broken packets first, before dispatch; dispatch as a tree; policies inlined into the interface's chain,
each with a final verdict, ports before sets; no mark and no comment. It refuses what ours refuses: sources that aren't routed
to the interface, a workload's own tunnels. For hosts it lets the failsafe ports in, and of IPv6 neighbour discovery. Pure text.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.packet_dispatch import tree
from benchmarks.packet_policies import Shape, words
from hostward.render.ruleset import Family

NEIGHBOURS = "-p ipv6-icmp -j ACCEPT"
TCP_FAILSAFE = "22,179,2379,2380,5473,6443,6666,6667"


def chains(
    interfaces: Sequence[str], guarded: Sequence[str], hosts: Sequence[str], policies: Sequence[Shape], family: Family = 4
) -> str:
    """For iptables-restore. `interfaces`: all workloads'; `guarded`: those with the policies; `hosts`: the first has them."""
    lines = ["*raw", ":PREROUTING ACCEPT [0:0]", "-A PREROUTING -i cali+ -m rpfilter --invert -j DROP", "COMMIT", "*filter"]
    dispatch = [*tree("o-from", "-i", {name: f"o-fw-{name}" for name in interfaces}, "-j DROP")]
    dispatch += tree("o-to", "-o", {name: f"o-tw-{name}" for name in interfaces}, "-j DROP")
    rules = [
        "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A FORWARD -m conntrack --ctstate INVALID -j DROP",
        *(f"-A FORWARD {way} {host} -j DROP" for host in hosts for way in ("-i", "-o")),
        "-A FORWARD -i cali+ -j o-from",
        "-A FORWARD -o cali+ -j o-to",
        "-A FORWARD -i cali+ -j ACCEPT",
        "-A FORWARD -o cali+ -j ACCEPT",
        "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A INPUT -m conntrack --ctstate INVALID -j DROP",
        *([f"-A INPUT {NEIGHBOURS}"] if family == 6 else []),
        "-A INPUT -i cali+ -j DROP",
        *(f"-A INPUT -i {host} -g o-host-{host}" for host in hosts),
        *dispatch,
    ]
    for name in interfaces:
        rules += [f"-A o-tw-{name} -j RETURN"]
        if name in guarded:
            rules += [f"-A o-fw-{name} -p udp -m multiport --dports 4789 -j DROP", f"-A o-fw-{name} -p ipencap -j DROP"]
            rules += [_rule(f"o-fw-{name}", shape, "dst", "RETURN", family) for shape in policies]
        rules += [f"-A o-fw-{name} -j DROP"]
    for host in hosts:
        rules += [f"-A o-host-{host} -p tcp -m multiport --dports {TCP_FAILSAFE} -j ACCEPT"]
        rules += [f"-A o-host-{host} -p udp -m udp --dport 68 -j ACCEPT"]
        rules += [_rule(f"o-host-{host}", shape, "src", "ACCEPT", family) for shape in policies if host == hosts[0]]
        rules += [f"-A o-host-{host} -j DROP"]
    names = dict.fromkeys(rule.split(" ")[1] for rule in rules)
    lines += [f":{name} {'ACCEPT' if name in ('INPUT', 'FORWARD') else '-'} [0:0]" for name in names]
    return "\n".join([*lines, *rules, "COMMIT", ""])


def with_mangle(
    interfaces: Sequence[str], guarded: Sequence[str], hosts: Sequence[str], policies: Sequence[Shape], family: Family = 4
) -> str:
    """The same, and what judges a local packet that nat OUTPUT has given another destination: only in mangle POSTROUTING is it
    known which interface that one leaves by. Loading the table costs every packet three hooks, whatever is in it."""
    filter_table = chains(interfaces, guarded, hosts, policies, family).removesuffix("COMMIT\n")
    redirected = "-A OUTPUT -m conntrack --ctstate DNAT -j MARK --set-xmark 0x1/0x1\nCOMMIT\n"
    return f"{filter_table}{redirected}*mangle\n-A POSTROUTING -m mark --mark 0x1/0x1 -j DROP\nCOMMIT\n"


def _rule(chain: str, shape: Shape, side: str, verdict: str, family: Family) -> str:
    said = words(shape, side, family)
    return f"-A {chain} {said.header}{said.ports}{said.in_set} -j {verdict}"
