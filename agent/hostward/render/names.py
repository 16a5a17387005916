"""Names of our chains and sets: readable where they fit, hashed where not (`statements.md` H-80, I-4; D11).

Pure functions; any thread.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from typing import Final, Literal

from hostward.model.keys import ResourceKey
from hostward.model.sets import NamedPortSet, NetSet, SelectorSet, ServiceSet, SetRef
from hostward.render.ruleset import MAX_CHAIN_NAME, Family

Direction = Literal["ingress", "egress"]

FROM_ENDPOINT: Final = "hw-from-host-endpoint"
TO_ENDPOINT: Final = "hw-to-host-endpoint"
FROM_FORWARD: Final = "hw-from-host-forward"
TO_FORWARD: Final = "hw-to-host-forward"
FROM_WORKLOAD_FORWARD: Final = "hw-from-host-wl-forward"
TO_WORKLOAD_FORWARD: Final = "hw-to-host-wl-forward"
FORWARD_FROM_WORKLOAD: Final = "hw-wl-forward-from"
FORWARD_TO_WORKLOAD: Final = "hw-wl-forward-to"
FROM_WORKLOAD: Final = "hw-from-wl"
TO_WORKLOAD: Final = "hw-to-wl"
WORKLOAD_TO_HOST: Final = "hw-wl-to-host"
WORKLOAD_RAW: Final = "hw-wl-raw"
FAILSAFE_IN: Final = "hw-failsafe-in"
FAILSAFE_OUT: Final = "hw-failsafe-out"
NEIGHBOUR_DISCOVERY: Final = "hw-nd"
WORKLOAD_LINK: Final = "hw-wl-nd"
OPEN_FORWARD: Final = "hw-open-forward"
OPEN_FORWARD_OUT: Final = "hw-out-open-forward"  # not hw-open-forward-…: so the branches of that tree are called
TRANSLATED: Final = "hw-translated"
ALLOW: Final = "hw-allow"
PASS: Final = "hw-pass"
ANY_INTERFACE_ID: Final = "_any"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*\Z")
_SHORTEST_HASH: Final = 12  # 72 bits
_SHORT = {"GlobalNetworkPolicy": "gnp", "NetworkPolicy": "np"}


def _hash(text: str, length: int) -> str:
    return urlsafe_b64encode(sha256(text.encode("utf-8", "surrogatepass")).digest()).decode()[:length]


def chain_name(prefix: str, name: str) -> str:
    """prefix + name where that is plain and fits into 28 characters, else prefix + "_" + a hash. Never two names the same.

    A prefix that leaves the hash too little room for that is cut, and then is part of what is hashed.
    """
    if _PLAIN.match(name) and len(prefix) + len(name) <= MAX_CHAIN_NAME:
        return prefix + name
    room = MAX_CHAIN_NAME - len(prefix) - 1
    if room >= _SHORTEST_HASH:
        return f"{prefix}_{_hash(name, room)}"
    return f"{prefix[: room - _SHORTEST_HASH]}_{_hash(prefix + name, _SHORTEST_HASH)}"


def policy_title(key: ResourceKey) -> str:
    """A policy for people: gnp/name or np/namespace/name."""
    where = f"{key.namespace}/{key.name}" if key.namespace else key.name
    return f"{_SHORT[key.kind]}/{where}"


@lru_cache(maxsize=16384)
def policy_chain(key: ResourceKey, direction: Direction) -> str:
    """The chain of a policy's rules of one direction; global policies by their own name."""
    prefix = "hw-pi-" if direction == "ingress" else "hw-po-"
    return chain_name(prefix, key.name if not key.namespace else policy_title(key))


def group_chain(members: Iterable[str], direction: Direction) -> str:
    """The chain of neighbouring policies of a list, named by their own chains: other rules in them, and it keeps its name."""
    prefix = "hw-gi-" if direction == "ingress" else "hw-go-"
    return prefix + _hash("\n".join(members), MAX_CHAIN_NAME - len(prefix))


@lru_cache(maxsize=8192)
def profile_chain(name: str, direction: Direction) -> str:
    """The chain of a profile's rules of one direction."""
    return chain_name("hw-pri-" if direction == "ingress" else "hw-pro-", name)


@lru_cache(maxsize=8192)
def endpoint_chain(interface: str, direction: Direction, traffic: Literal["", "fw", "wl"] = "") -> str:
    """The chain of the endpoint that governs an interface: its own traffic, forwarded, or forwarded from or to workloads.

    Rules from the host (ingress) are in `hw-fh…`, to it (egress) in `hw-th…`, as in Felix.
    """
    prefix = f"hw-{'fh' if direction == 'ingress' else 'th'}{traffic}-"
    return prefix + ANY_INTERFACE_ID if interface == "*" else chain_name(prefix, interface)


@lru_cache(maxsize=8192)
def workload_chain(interface: str, direction: Direction) -> str:
    """The chain of what comes from a workload (`hw-fw-…`, egress policies) or goes to it (`hw-tw-…`, ingress ones)."""
    return chain_name("hw-fw-" if direction == "egress" else "hw-tw-", interface)


@lru_cache(maxsize=16384)
def set_name(ref: SetRef, family: Family) -> str:
    """The kernel's name of a set, at most 31 characters; the letter says its type, which so never changes under a name."""
    match ref:
        case SelectorSet(selector):
            return f"hw{family}-s-{_hash(selector, 24)}"
        case NamedPortSet(selector, protocol, name):
            return f"hw{family}-p-{_hash(f'{selector},{protocol},{name}', 24)}"
        case ServiceSet(service):
            kind = "v" if service.ports else "a"
            return f"hw{family}-{kind}-{_hash(f'{service.namespace}/{service.name}', 24)}"
        case NetSet(nets):
            return f"hw{family}-n-{_hash(','.join(nets), 24)}"
