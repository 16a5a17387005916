"""Other programs that write packet filters, recognised by what they leave in the kernel; and what that means beside us.

Pure functions; any thread. What there is in the kernel is read by `dataplane.neighbours`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from hostward.model.findings import Finding, ok, warn

FELIX: Final = "Felix"
LEGACY, NFTABLES = "iptables-legacy", "nftables"
_IPTABLES_NFT: Final = frozenset(f"{ip} {table}" for ip in ("ip", "ip6") for table in ("raw", "mangle", "nat", "filter"))


class Seen(NamedTuple):
    """What others have in the kernel: names of chains by table ("filter", IPv4 and IPv6 together, of legacy iptables; "ip
    filter" of nftables), how many rules iptables-nft's tables hold, and the names of interfaces."""

    legacy: Mapping[str, frozenset[str]] = {}
    nftables: Mapping[str, frozenset[str]] = {}
    nft_rules: int = 0
    interfaces: frozenset[str] = frozenset()


class _Known(NamedTuple):
    """A program by the beginnings of its chains' names, tables of its own in nftables, and interfaces; what to say of it."""

    name: str
    chains: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()
    means: str = ""
    do: str = ""


_KNOWN: Final = (
    _Known(
        FELIX,
        ("cali-",),
        means="it puts its rules first, as the agent does; what it accepts while it is first no policy here judges, until "
        "ours are first again at the next drift check",
        do="run one of the two: see docs/from-felix.md",
    ),
    _Known(
        "kube-proxy",
        ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-FORWARD", "KUBE-PROXY-", "KUBE-EXTERNAL-SERVICES"),
        ("kube-proxy",),
        means="both work beside each other",
    ),
    _Known(
        "IPVS",
        interfaces=("kube-ipvs0",),
        means="what comes for a service passes INPUT and OUTPUT, not FORWARD: preDNAT policies judge it, forward ones don't",
        do="write preDNAT policies for services, or run kube-proxy in iptables mode",
    ),
    _Known(
        "Cilium",
        ("CILIUM_",),
        interfaces=("cilium_host", "cilium_net"),
        means="its eBPF programs can send packets on before iptables sees them; those no policy here judges",
        do="guard these hosts with Cilium's own host firewall, or remove it",
    ),
    _Known(
        "firewalld",
        ("INPUT_ZONES", "INPUT_direct", "FORWARD_direct", "IN_public"),
        ("firewalld",),
        means="a packet must pass both where firewalld uses nftables; where it uses iptables, its reload takes our rules away "
        "until the next drift check",
        do="systemctl disable --now firewalld, or allow in both what shall pass",
    ),
    _Known(
        "ufw",
        ("ufw-", "ufw6-"),
        means="what a policy accepts doesn't reach ufw's rules in the same tables; in the other iptables variant a packet must "
        "pass both",
        do="ufw disable, or allow in both what shall pass",
    ),
    _Known(
        "Docker",
        ("DOCKER",),
        interfaces=("docker0",),
        means="published ports are forwarded traffic: policies judge them first, by the container's address and port, and with "
        "hostForwardPolicy All they are denied unless allowed",
        do="allow published ports by preDNAT policies or in forward policies",
    ),
    _Known("libvirt", ("LIBVIRT_",), ("libvirt_network",), means="traffic of its guests is forwarded traffic to policies"),
    _Known("Tailscale", ("ts-",), means="both work beside each other; it uses marks in 0xff0000"),
    _Known("fail2ban", ("f2b-",), ("f2b-table",), means="what a policy accepts doesn't reach its bans", do="ban in policies"),
)


def recognise(seen: Seen) -> tuple[Finding, ...]:
    """Who else is there, each by one finding with its name as `check`; a warning where it may surprise somebody."""
    return (*(found for known in _KNOWN if (found := _one(known, seen))), *_other_variant(seen))


def _one(known: _Known, seen: Seen) -> Finding | None:
    where = sorted(filter(None, (_of_chains(known, seen), _of_tables(known, seen), _of_interfaces(known, seen))))
    if not where:
        return None
    text = f"{'; '.join(where)}: {known.means}"
    return warn(known.name, text, known.do) if known.do else ok(known.name, text)


def _of_chains(known: _Known, seen: Seen) -> str:
    places = [f"{LEGACY} {table}" for table, chains in seen.legacy.items() if _has(known, chains)]
    places += [f"{NFTABLES} {table}" for table, chains in seen.nftables.items() if _has(known, chains)]
    return f"chains in {', '.join(sorted(places))}" if places else ""


def _has(known: _Known, chains: Iterable[str]) -> bool:
    return bool(known.chains) and any(name.startswith(known.chains) for name in chains)


def _of_tables(known: _Known, seen: Seen) -> str:
    tables = sorted(name for name in seen.nftables if name.partition(" ")[2] in known.tables)
    return f"{NFTABLES} table {', '.join(tables)}" if tables else ""


def _of_interfaces(known: _Known, seen: Seen) -> str:
    names = sorted(seen.interfaces.intersection(known.interfaces))
    return f"interface {', '.join(names)}" if names else ""


def _other_variant(seen: Seen) -> Iterator[Finding]:
    kube = any(name.startswith("KUBE-") for table in _IPTABLES_NFT & seen.nftables.keys() for name in seen.nftables[table])
    if not seen.nft_rules and not kube:
        return
    whose = ", kube-proxy's among them," if kube else ""
    yield warn(
        "iptables variants",
        f"iptables-nft holds {seen.nft_rules} rules{whose} while the agent writes to iptables-legacy: both are enforced, a "
        "packet must pass both, and `iptables` may show only one of them",
        "see `iptables -V`; with `update-alternatives --config iptables` others can write where the agent does",
    )
