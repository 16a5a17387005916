"""What `hostward doctor` looks at, in the order that it prints. Effects are here, judgements in `report.host_findings`."""

from __future__ import annotations

import http.client
import platform
import socket
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import hostward
from hostward.cli.agent import FILE, read_file
from hostward.cli.forwarding import forwarding
from hostward.cli.stored import Stored, read_stored
from hostward.dataplane import needs, neighbours, sockets
from hostward.dataplane.kernel import KernelError
from hostward.datastore.checkup import ask_each, count_resources
from hostward.datastore.connection import NOBODY_SAID, Connection, from_environment
from hostward.datastore.directory.store import DirStore
from hostward.datastore.store import StoreError
from hostward.model.findings import Finding, fail, ok, warn
from hostward.model.neighbours import recognise
from hostward.model.setting_sources import Resolved, resolve
from hostward.model.settings import Settings
from hostward.render.ruleset import Family
from hostward.report import host_findings as judge
from hostward.report.agent_lock import is_agent_running
from hostward.report.certificates import CertificateError, validity
from hostward.report.status import Status, StatusError, read_status

CONNTRACK = "/proc/sys/net/netfilter/nf_conntrack_{}"


def checkups(environ: Mapping[str, str], datastore: str) -> Iterator[Finding]:
    """Everything, one finding after another."""
    resolved = resolve(environ, read_file(FILE), None, None, socket.gethostname())
    yield ok("versions", f"hostward {hostward.__version__}, kernel {platform.release()}, Python {platform.python_version()}")
    yield from _settings(resolved)
    rights = needs.rights()
    privileged = rights.level == "ok"
    yield from _kernel(resolved.settings, rights)
    directory = datastore.startswith("dir:")
    before = list(_directory(Path(datastore.removeprefix("dir:"))) if directory else etcd(environ))
    yield from before
    node = resolved.settings.node_name
    stored = read_stored(datastore, environ)
    if isinstance(stored, Stored):
        yield from stored.findings(node, always_ready=directory)
    else:
        if all(finding.level != "fail" for finding in before):
            yield fail("datastore", stored, "correct it; the agent keeps what is in force until it can read")
        stored = Stored({})
    settings = resolve(environ, read_file(FILE), *stored.configurations(node), socket.gethostname()).settings
    yield from forwarding(stored, settings)
    yield from judge.failsafe_findings(sockets.listening(), sockets.connected(), settings)
    yield from _others(settings, needs.families(), privileged=privileged)
    yield from _agent(settings)


def _settings(resolved: Resolved) -> Iterator[Finding]:
    for error in resolved.errors:
        yield fail("settings", error, "correct it; the agent doesn't start with it")
    for notice in resolved.notices:
        yield warn("settings", notice, "see docs/settings.md")
    if not resolved.errors and not resolved.notices:
        yield ok("settings", f"node {resolved.settings.node_name}")


def _kernel(settings: Settings, rights: Finding) -> Iterator[Finding]:
    """What the agent would need: as seen by this process, which may have fewer rights than the agent."""
    lock = needs.lock_file(Path(settings.iptables_lock_file_path))
    versions = needs.families()
    if 6 not in versions:
        yield ok("IPv6", "this kernel speaks none: only IPv4 is guarded")
    elif not settings.ipv6_support:
        yield warn("IPv6", "ipv6Support is false, and this kernel speaks IPv6", "see docs/settings.md")
    if rights.level == "ok":
        yield rights
        yield lock
        for family in versions:
            yield from needs.of_kernel(family)
        yield needs.connections()
        yield from _connection_table()
    else:
        yield warn("kernel", f"not looked at: {rights.finding}", "run this as root")
        if lock.level == "ok":
            yield lock
    yield from map(needs.tool, versions)


def _connection_table() -> Iterator[Finding]:
    try:
        count, limit = (int(Path(CONNTRACK.format(name)).read_text(encoding="ascii")) for name in ("count", "max"))
    except (OSError, ValueError):
        return
    yield judge.connections_finding(count, limit)


def _directory(path: Path) -> Iterator[Finding]:
    try:
        broken = DirStore(path).broken()
    except StoreError as error:
        yield fail("datastore", str(error), "make it, or name another directory by HOSTWARD_DATASTORE")
        return
    for text in broken:
        yield fail("datastore", text, "correct the manifest; until then its last readable form counts, if it had one")


def etcd(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Each server, certificates, clocks, and what we may read."""
    try:
        connection = from_environment(environ)
        yield from _certificates(connection)
        answers = ask_each(connection)
    except StoreError as error:
        yield fail("etcd", str(error), "correct the ETCD_… variables")
        return
    reached = [answer for answer in answers if not answer.trouble]
    for answer in answers:
        if answer.trouble:
            told = warn if reached else fail
            do = NOBODY_SAID if connection.assumed else answer.do
            yield told("etcd", f"{answer.endpoint}: {answer.trouble}", do)
        else:
            yield ok("etcd", f"{answer.endpoint} answers")
    skews = [answer for answer in reached if answer.skew is not None]
    if reached:
        worst = max(skews, key=lambda answer: abs(answer.skew or 0.0), default=reached[0])
        yield judge.clock_finding(worst.skew, worst.endpoint)
        try:
            yield ok("etcd rights", f"{count_resources(connection)} resources can be read")
        except StoreError as error:
            do = "name a user or a certificate that may read all keys that begin with /calico/resources/v3/projectcalico.org/"
            yield fail("etcd rights", str(error), do)


def _certificates(connection: Connection) -> Iterator[Finding]:
    now = datetime.now(UTC)
    for pem in (connection.ca, connection.cert):
        if pem is None:
            continue
        name = f"{pem.setting} {pem.file or ''}".strip()
        try:
            begins, ends = validity(pem.read())
        except CertificateError as error:
            yield fail("certificate", f"{name}: {error}", "give a certificate in PEM form")
        else:
            yield judge.certificate_finding(name, begins, ends, now)


def _others(settings: Settings, versions: tuple[Family, ...], *, privileged: bool) -> Iterator[Finding]:
    if not privileged:
        yield warn("other firewalls", "not looked for, as this process lacks CAP_NET_ADMIN", "run this as root")
        return
    try:
        found = recognise(neighbours.look(versions))
        yield from found or (ok("other firewalls", "none that is known"),)
        yield judge.mark_findings(settings.mark_mask, neighbours.marks(versions))
    except KernelError as error:
        yield fail("other firewalls", str(error), "see the kernel's lines above")


def _agent(settings: Settings) -> Iterator[Finding]:
    try:
        running = is_agent_running(settings.state_dir)
    except OSError as error:
        yield warn("agent", f"can't be looked at: {error.filename}: {error.strerror}", "run this as root")
        return
    status: Status | None = None
    trouble = ""
    try:
        status = read_status(settings.state_dir)
    except StatusError as error:
        trouble = str(error)
    yield from judge.agent_findings(running, status, trouble, datetime.now(UTC))
    if running and settings.health_enabled:
        yield judge.readiness_finding(*_readiness(settings))


def _readiness(settings: Settings) -> tuple[int | None, str]:
    web = http.client.HTTPConnection(settings.health_host, settings.health_port, timeout=5)
    try:
        web.request("GET", "/readiness")
        answer = web.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return None, f"{settings.health_host}:{settings.health_port}: {error}"
    finally:
        web.close()
