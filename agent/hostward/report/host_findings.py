"""What `hostward doctor` makes of the facts of a host: judgements, one function a check. Pure; any thread."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Final

from hostward.model.failsafe import FailsafePort
from hostward.model.findings import Finding, fail, ok, warn
from hostward.model.rules import TCP
from hostward.model.settings import Settings
from hostward.report.status import Status

MOST_SKEW: Final = 5.0  # seconds
SOON: Final = timedelta(days=30)
STALE: Final = timedelta(seconds=60)
_SSH: Final = ("sshd", "dropbear")
_SERVERS: Final = {"etcd": "members and clients on other hosts", "kubelet": "the API server, for logs and exec"}
Ports = Iterable[tuple[str, int, str]]  # address, port, process


def failsafe_findings(listening: Ports, connected: Ports, settings: Settings) -> Iterator[Finding]:
    """What a host endpoint would cut off from this host: ssh, etcd and kubelet that aren't failsafe ports."""
    listening = list(listening)
    seen = [item for item in listening if item[2]]
    if listening and not seen:
        do = "run this as root, and in a container with the host's processes (hostPID)"
        yield warn("failsafe ports", "it can't be seen which processes listen", do)
        return
    inbound, outbound = settings.failsafe_inbound_host_ports, settings.failsafe_outbound_host_ports
    found = False
    for name, ports in sorted(_by_process(seen, lambda process: process in (*_SSH, *_SERVERS)).items()):
        missing = sorted(port for port in ports if not _covers(inbound, port))
        if not missing:
            continue
        found, text = True, ", ".join(map(str, missing))
        if name in _SSH:
            do = f"before you write a host endpoint, allow it by policy, or add tcp:{missing[0]} to failsafeInboundHostPorts"
            yield fail(
                "failsafe ports", f"{name} listens on port {text}, which is no failsafe port: logins will be cut off", do
            )
        else:
            do = f"allow it by policy where it is needed, or add tcp:{missing[0]} to failsafeInboundHostPorts"
            yield warn("failsafe ports", f"{name} listens on port {text}, no failsafe port, for {_SERVERS[name]}", do)
    far = _by_process(connected, lambda process: process in ("kubelet", "etcd"))
    for name, ports in sorted(far.items()):
        if missing := sorted(port for port in ports if not _covers(outbound, port)):
            found = True
            do = f"allow it by an egress policy, or add tcp:{missing[0]} to failsafeOutboundHostPorts"
            yield warn("failsafe ports", f"{name} is connected to port {', '.join(map(str, missing))}, no failsafe port", do)
    if unseen := sorted({port for _, port, process in listening if not process and not _covers(inbound, port)}):
        found, text = True, ", ".join(map(str, unseen))  # the kernel's own (NFS), or a container without the host's processes
        do = "where it is needed, allow it by policy; root, and hostPID in a container, see more"
        yield warn("failsafe ports", f"it can't be seen who listens on port {text}, no failsafe port", do)
    if not found:
        yield ok("failsafe ports", "cover ssh, etcd and kubelet, as far as they run here")


def _by_process(ports: Ports, wanted: Callable[[str], bool]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for _, port, process in ports:
        if wanted(process):
            found.setdefault(process, set()).add(port)
    return found


def _covers(ports: Iterable[FailsafePort], port: int) -> bool:
    """Whether a port is open to everybody by a failsafe entry."""
    return any(entry.protocol == TCP and entry.port == port and _is_everybody(entry.net) for entry in ports)


def _is_everybody(net: str | None) -> bool:
    return not net or (net.endswith("/0") and ip_address(net.partition("/")[0]).is_unspecified)


def mark_findings(mask: int, uses: Iterable[tuple[int, str]]) -> Finding:
    """Whether others use bits of the packet mark that are ours."""
    check = "packet marks"
    shared = sorted({f"{where} uses {used:#x}" for used, where in uses if used & mask})
    if not shared:
        return ok(check, f"nobody else uses bits of markMask {mask:#x}")
    do = "set markMask to six bits that nobody uses"
    return warn(check, f"markMask {mask:#x} overlaps: {'; '.join(shared)}", do)


def agent_findings(running: bool, status: Status | None, trouble: str, now: datetime) -> Iterator[Finding]:
    """What the agent of this host says of itself. `trouble`: why its status can't be read."""
    check = "agent"
    if not running:
        do = "start it: systemctl start hostward-agent, or hostward agent"
        yield warn(check, "no agent runs here: what is in the kernel stays, and nothing is followed or repaired", do)
        return
    if status is None:
        yield fail(check, trouble, "run this as root; else see the agent's log")
        return
    yield ok(check, f"hostward {status.version} on {status.node}, process {status.pid}")
    if status.written_at is None or now - status.written_at > STALE:
        do = "see the agent's log, and /liveness"
        yield fail("agent's status", f"was written {status.written_at or 'never'}, long ago", do)
    if status.frozen:
        yield fail("agent's datastore", "; ".join(status.frozen), "see docs/bad-input.md: a datastore in doubt")
    elif status.datastore.state != "in-sync":
        text = f"{status.datastore.state}: {status.datastore.detail}".rstrip(": ")
        yield fail("agent's datastore", text, "see the lines of etcd above")
    if status.applied_revision != status.desired_revision:
        text = f"revision {status.desired_revision} is received, {status.applied_revision} is in the kernel"
        yield warn("agent's rules", text, "wait a second and look again; then see the agent's log and /readiness")
    if status.set_aside_count:
        yield warn("stored objects", f"{status.set_aside_count} aren't wholly understood", "hostward status names each")


def _component(line: str) -> str:
    """What a line of /readiness says, in short: the component, and its detail where it has one."""
    name, *cells = re.split(r"\s{2,}", line.strip(), maxsplit=4)
    return f"{name}: {next((cell for cell in reversed(cells) if cell != '-'), 'not ready')}"


def readiness_finding(code: int | None, text: str) -> Finding:
    """What the agent's health server says; None: it doesn't answer."""
    check = "agent's readiness"
    if code is None:
        return warn(check, f"can't be asked for: {text}", "see healthEnabled, healthHost and healthPort")
    if code == 200:
        return ok(check, "ready")
    lines = text.splitlines()
    told = [_component(line) for line in lines if "non-ready" in line or "timed out" in line] or lines
    return fail(check, f"not ready: {'; '.join(told)}", "see the agent's log")


def clock_finding(skew: float | None, server: str) -> Finding:
    """How far this host's clock is ahead of the datastore's, in seconds; None: the server doesn't say."""
    check = "clock"
    if skew is None:
        return ok(check, f"{server or 'the datastore'} doesn't tell its time, so that it isn't compared")
    if abs(skew) <= MOST_SKEW:
        return ok(check, f"within {MOST_SKEW:g} s of {server}'s")
    way = "ahead of" if skew > 0 else "behind"
    do = "set up NTP (timedatectl set-ntp true) on both: certificates, tokens and times in logs depend on it"
    return warn(check, f"{abs(skew):.0f} s {way} {server}'s", do)


def certificate_finding(name: str, begins: datetime, ends: datetime, now: datetime) -> Finding:
    """Whether a certificate is valid now, and for how long."""
    check = "certificate"
    span = f"{name}: valid from {begins:%Y-%m-%d} to {ends:%Y-%m-%d}"
    if now < begins:
        return fail(check, f"{span}: not yet valid", "check this host's clock, or have it issued anew")
    if now > ends:
        return fail(
            check, f"{span}: expired", "have it renewed, then restart nothing: the agent reads it at its next connection"
        )
    if ends - now < SOON:
        return warn(check, f"{span}: expires soon", "have it renewed")
    return ok(check, span)


def connections_finding(count: int, limit: int) -> Finding:
    """Whether there is room for new connections."""
    check = "connection table"
    text = f"{count} of {limit} entries"
    if count < 0.9 * limit:
        return ok(check, text)
    return warn(check, f"{text}: new connections will be dropped when it is full", "raise net.netfilter.nf_conntrack_max")
