"""Names: from the v1 API's to v3's (`statements.md` B.4), and what v3 accepts as names and labels (A.10).

A v1 name that v3 can't hold becomes a normalised one with a hash of the original, exactly as Calico's own upgrade names it.
Pure functions; any thread.
"""

from __future__ import annotations

import re
from hashlib import sha1
from typing import Final

_ODD: Final = re.compile(r"[^-.a-z0-9]+")
_SEPARATORS: Final = re.compile(r"[-.]*\.[-.]*")
_LABEL: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?")
_QUALIFIED: Final = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?")
_PORT: Final = re.compile(r"(?=[-0-9]*[a-z])[a-z0-9](?:[-a-z0-9]*[a-z0-9])?")
_COPIED_POLICIES: Final = {
    True: ("knp.default.", "ossg.default."),
    False: ("kanp.adminnetworkpolicy.", "kbanp.baselineadminnetworkpolicy.", "kcnp."),
}
_LENT: Final = ("pcns.", "pcsa.")
_INTERFACE: Final = re.compile(r"[A-Za-z0-9_.-]{1,15}")


def normalise(name: str) -> str:
    """A name in v3's alphabet, without a hash: how node names are converted (B.4)."""
    lowered = name.lower().replace("/", ".")
    return _SEPARATORS.sub(".", _ODD.sub("-", lowered)).strip(".-")


def _with_hash(converted: str, original: str) -> str:
    if converted == original:
        return converted
    digest = sha1(original.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
    return f"{converted}-{digest[:8]}".lstrip("-")


def policy(name: str) -> str:
    """The v3 name of a v1 policy: dots become dashes, and a changed name ends in a hash."""
    return _with_hash(normalise(name).replace(".", "-"), name)


def profile(name: str) -> str:
    """The v3 name of a v1 profile: `k8s_ns.X` is `kns.X`."""
    renamed = f"kns.{name.removeprefix('k8s_ns.')}" if name.startswith("k8s_ns.") else name
    return _with_hash(normalise(renamed), renamed)


def host_endpoint(node: str, name: str) -> str:
    """The v3 name of a v1 host endpoint, whose names were unique per node only."""
    original = f"{normalise(node)}.{name}"
    return _with_hash(normalise(original), original)


def ip_pool(cidr: str) -> str:
    """The v3 name of a v1 pool, which had none: made of its CIDR."""
    return re.sub(r"[.:/]", "-", cidr).strip("-")


def wrong_name(name: str) -> str | None:
    """What is wrong with a resource's name: dot-separated DNS labels, at most 253 characters; None if nothing."""
    if len(name) > 253:
        return f"{len(name)} characters; at most 253 are allowed"
    if all(_LABEL.fullmatch(part) for part in name.split(".")):
        return None
    fitting = normalise(name)
    instead = f"; {fitting!r} would do" if is_dns_name(fitting) else ""
    return f"a name is made of lower-case letters, digits, '-' and '.', and begins and ends with a letter or digit{instead}"


def is_dns_name(name: str) -> bool:
    """Whether a name is made of dot-separated DNS labels, whatever its length."""
    return bool(name) and all(_LABEL.fullmatch(part) for part in name.split("."))


def wrong_policy_name(name: str, *, namespaced: bool) -> str | None:
    """What is wrong with a policy's name: one DNS label, or two with a dot (A.10); None if nothing.

    Names of copies of other systems' policies may have any number of dots, as the originals do.
    """
    if wrong := wrong_name(name):
        return wrong
    if name.startswith(_COPIED_POLICIES[namespaced]):
        return None
    return "a policy's name has at most one dot" if name.count(".") > 1 else None


def wrong_tier_name(name: str) -> str | None:
    """What is wrong with a tier's name: one DNS label of at most 63 characters (A.10); None if nothing."""
    if len(name) > 63:
        return f"{len(name)} characters; at most 63 are allowed"
    return "a tier's name has no dots" if "." in name else wrong_name(name)


def wrong_label_key(key: str) -> str | None:
    """What is wrong with the key of a label or annotation: a name, with an optional `domain/` before it; None if nothing."""
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > 253 or not is_dns_name(prefix)):
        return f"the part before '/' must be a DNS name, not {prefix!r}"
    if len(name) > 63 or not _QUALIFIED.fullmatch(name):
        return "a key has 1 to 63 letters, digits, '-', '_' or '.', begins and ends with a letter or digit"
    return None


def wrong_lent_label_key(key: str) -> str | None:
    """What is wrong with the key of a label that a profile lends; None if nothing.

    The prefix for labels of namespaces and service accounts doesn't count: what it stands before may have 63 characters itself.
    """
    return wrong_label_key(next((key.removeprefix(prefix) for prefix in _LENT if key.startswith(prefix)), key))


def wrong_label_value(value: str) -> str | None:
    """What is wrong with a label's value: at most 63 characters, alphanumeric at both ends, or empty; None if nothing."""
    if len(value) > 63 or (value and not _QUALIFIED.fullmatch(value)):
        return "a label's value has at most 63 letters, digits, '-', '_' or '.', begins and ends with a letter or digit"
    return None


def wrong_port_name(name: str) -> str | None:
    """What is wrong with a port's name (A.10 Port); None if nothing."""
    if len(name) <= 15 and _PORT.fullmatch(name) and "--" not in name:
        return None
    return "a port's name has at most 15 lower-case letters, digits and single '-', at least one letter"


def is_interface(name: str) -> bool:
    """Whether a text can name a network interface of a host endpoint (A.10 HostEndpoint)."""
    return bool(_INTERFACE.fullmatch(name))
