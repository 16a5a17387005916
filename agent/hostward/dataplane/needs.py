"""What the agent needs of the kernel and of its own rights, found by asking for it: nothing is written.

Asking loads a table or a module where the kernel may load it, as `iptables -S` does. Any thread, for the network namespace
that it is in; it touches no library that only the engine thread may use.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from hostward.dataplane.ipset_wire import TYPE, TYPES, asked, is_known
from hostward.dataplane.kernel import KernelError
from hostward.dataplane.netlink import NETLINK_NETFILTER, Netlink, RefusedError, attributes
from hostward.dataplane.xtables.restore import NAMES, is_legacy
from hostward.dataplane.xtables.sockopt import Kind, TableSocket
from hostward.model.findings import Finding, fail, ok, warn
from hostward.render.ruleset import FAMILIES, TABLES, Family, TableId

CAPABILITIES: Final = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}  # include/uapi/linux/capability.h
GIVE: Final = (
    "run it as root, or with CAP_NET_ADMIN and CAP_NET_RAW (systemd: AmbientCapabilities=; Kubernetes: capabilities.add)"
)
LOAD: Final = "as root on this host: modprobe {}; in a container, load it on the host, or build a kernel that has it"
_COUNT_FLOWS: Final = 1 << 8 | 5  # IPCTNL_MSG_CT_GET_STATS


class _Part(NamedTuple):
    """A match or target by its least revision, its module, and what can't do without it ("" for everything)."""

    kind: Kind
    name: str
    revision: int
    module: str
    use: str = ""


_PARTS: Final = (
    _Part("match", "comment", 0, "xt_comment"),
    _Part("match", "conntrack", 2, "xt_conntrack"),
    _Part("match", "mark", 1, "xt_mark"),
    _Part("match", "multiport", 1, "xt_multiport"),
    _Part("match", "set", 4, "xt_set"),
    _Part("target", "MARK", 2, "xt_mark"),
    _Part("match", "connmark", 1, "xt_connmark", "cutOpenConnections"),
    _Part("target", "CT", 1, "xt_CT", "doNotTrack policies"),
    _Part("match", "rpfilter", 0, "{}t_rpfilter", "workloads, whose source addresses are checked by it"),
    _Part("target", "REJECT", 0, "{}t_REJECT", "iptablesFilterDenyAction Reject"),
    _Part("target", "LOG", 0, "xt_LOG", "Log rules"),
    _Part("match", "limit", 0, "xt_limit", "Log rules with a rate limit"),
)


def families() -> tuple[Family, ...]:
    """IPv4, and IPv6 unless the kernel was built or started without it (`ipv6.disable=1`)."""
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError as error:
        # A sandbox says the same of an address family that it denies; then IPv6 is there, and must not be left open.
        if error.errno == errno.EAFNOSUPPORT and not Path("/proc/net/if_inet6").exists():
            return (4,)
    return FAMILIES


def rights(status: str | None = None) -> Finding:
    """Whether this process has the two capabilities. `status`: the text of /proc/self/status."""
    if status is None:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    held = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")), 0)
    missing = [name for name, bit in CAPABILITIES.items() if not held >> bit & 1]
    if missing:
        return fail("capabilities", f"this process lacks {' and '.join(missing)}", GIVE)
    return ok("capabilities", "CAP_NET_ADMIN and CAP_NET_RAW")


def lock_file(path: Path) -> Finding:
    """Whether the xtables lock can be opened, or made. Nothing is made here."""
    check = "xtables lock"
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
    except FileNotFoundError:
        if os.access(path.parent, os.W_OK | os.X_OK):
            return ok(check, f"{path} doesn't exist yet, and can be made")
        why = f"{path} doesn't exist, and can't be made in {path.parent}"
    except OSError as error:
        why = f"{path} can't be opened: {error.strerror}"
    else:
        if not path.is_dir():
            return ok(check, f"{path} can be opened")
        why = f"{path} is a directory: a container runtime makes one where the host had no such file"
        return fail(check, why, f"on the host: rmdir {path}; touch {path}; mount it as FileOrCreate")
    do = f"make {path} readable for user {os.geteuid()}, or set iptablesLockFilePath to the file that the host's iptables locks"
    return fail(check, why, do)


def tool(family: Family) -> Finding:
    """Whether the program for very large writes is there."""
    check = f"iptables tool, IPv{family}"
    for name in NAMES[family]:
        path = shutil.which(name)
        if path is None:
            continue
        try:
            done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return warn(check, f"{path} can't be run: {error}", "install the package iptables, version 1.8 or later")
        if done.returncode == 0 and is_legacy(name, done.stdout):
            return ok(check, f"{path}: {done.stdout.strip()}")
    return warn(
        check,
        f"{NAMES[family][0]} isn't on PATH: the agent enforces without it, but can't write 200,000 rules and more at once",
        "install the package iptables, version 1.8 or later",
    )


def of_kernel(family: Family) -> Iterator[Finding]:
    """Tables, matches and targets, and kinds of sets of one IP version; a failure: that version can't be guarded."""
    version = f"IPv{family}"
    try:
        opened = TableSocket(family)
    except KernelError as error:
        yield fail(f"tables, {version}", str(error), GIVE)
        return
    with opened as kernel:
        try:
            for name in TABLES:
                kernel.info(TableId(family, name))
        except KernelError as error:
            yield fail(f"tables, {version}", str(error), _table_help(family, error))
        else:
            yield ok(f"tables, {version}", ", ".join(TABLES))
            yield _parts(kernel, family)
    yield _sets(family)


def _table_help(family: Family, error: KernelError) -> str:
    if "CAP_NET_ADMIN" in str(error):
        return f"{GIVE}; in a user namespace of its own, the network namespace must belong to that one"
    prefix = "ip" if family == 4 else "ip6"
    modules = " ".join((f"{prefix}_tables", *(f"{prefix}table_{name}" for name in TABLES)))
    return LOAD.format(f"-a {modules}") + "; or, where nothing is missing, allow the agent legacy iptables (seccomp)"


def _parts(kernel: TableSocket, family: Family) -> Finding:
    """The matches and targets that rules are made of."""
    check = f"matches and targets, IPv{family}"
    missing = [part for part in _PARTS if not kernel.knows(part.kind, part.name, part.revision)]
    if not missing:
        return ok(check, ", ".join(dict.fromkeys(part.name for part in _PARTS)))
    words = ", ".join(f"{p.kind} {p.name} revision {p.revision}" + (f" (for {p.use})" if p.use else "") for p in missing)
    modules = " ".join(sorted({part.module.format("ip" if family == 4 else "ip6") for part in missing}))
    told = fail if any(not part.use for part in missing) else warn
    return told(check, f"the kernel lacks {words}", LOAD.format(f"-a {modules}"))


def _sets(family: Family) -> Finding:
    """The kinds of sets that rules look at."""
    check = f"sets, IPv{family}"
    modules = "-a ip_set ip_set_hash_net ip_set_hash_ipport"
    try:
        with Netlink(NETLINK_NETFILTER) as netlink:
            for kind in sorted(TYPES):
                if not is_known(kind, netlink.request(TYPE, asked(kind, family))):
                    return fail(check, f"the kernel's sets of type {kind} are too old", "use a kernel of 4.18 or later")
    except RefusedError as error:
        if error.code in (errno.EPERM, errno.EACCES):
            return fail(check, f"the kernel refuses sets: {error}", GIVE)
        return fail(check, f"the kernel has no sets of the types {', '.join(sorted(TYPES))}: {error}", LOAD.format(modules))
    except OSError as error:
        return fail(check, f"the kernel can't be asked for sets: {error}", LOAD.format(f"nfnetlink; modprobe {modules}"))
    return ok(check, ", ".join(sorted(TYPES)))


def connections() -> Finding:
    """Whether open connections can be forgotten."""
    check = "connection tracking"
    try:
        with Netlink(NETLINK_NETFILTER) as netlink:
            body = netlink.request(_COUNT_FLOWS, struct.pack("=BBH", socket.AF_UNSPEC, 0, 0))
    except (RefusedError, OSError) as error:
        what = f"open connections can't be listed: {error}; those of a workload that is gone would live on"
        refused = isinstance(error, RefusedError) and error.code == errno.EPERM
        return warn(check, what, GIVE if refused else LOAD.format("nf_conntrack_netlink"))
    entries = next((struct.unpack(">I", value)[0] for kind, value in attributes(body, 4) if kind == 1), 0)
    return ok(check, f"{entries} connections")


def at_start(lock: Path, versions: Sequence[Family]) -> tuple[list[Finding], bool]:
    """What is missing, and whether the agent can enforce anything: not without rights or lock, nor with no IP version."""
    own = [rights(), lock_file(lock)]
    if any(finding.level == "fail" for finding in own):
        return _missing(own), False
    kernels = {family: list(of_kernel(family)) for family in versions}
    able = any(all(finding.level != "fail" for finding in found) for found in kernels.values())
    of_kernels = [finding for found in kernels.values() for finding in found]
    return _missing([*own, *of_kernels, connections(), *map(tool, versions)]), able


def _missing(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level != "ok"]
