"""/metrics and health where everybody reaches them: abuse (P1), TLS and clients' certificates (P2), labels without end (P3)."""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hostward.model.keys import KINDS
from tests.e2e import documents as d
from tests.e2e.conftest import GUARDED, Site, start_guarding
from tests.lab.certificates import authority, expired, issue
from tests.lab.figures import Figures, sizes
from tests.lab.pages import block

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
ABUSE = Path(__file__).with_name("abuse.py")
PAGE = Path(__file__).parents[2] / "docs/operate.md"


@pytest.fixture
def exposed(tmp_path: Path) -> Iterator[Site]:
    """A guarded site whose /metrics is on every address, open to one client by a policy."""
    with ExitStack() as stack:
        site = Site(stack)
        site.agent.env["HOSTWARD_PROMETHEUS_METRICS_HOST"] = "::"
        start_guarding(site)
        (tmp_path / "prometheus.yaml").write_text(block(PAGE, "prometheus.yaml"))
        done = site.agent.command("apply", "-f", str(tmp_path / "prometheus.yaml"))
        assert done.returncode == 0, done.stderr
        site.agent.wait_applied(site.etcd.revision())
        yield site


class Client:
    """Asks for pages from the first client's namespace."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def get(
        self, path: str = "/metrics", context: ssl.SSLContext | None = None, *, version: int = 4, timeout: float = 10
    ) -> tuple[int, str]:
        """Status and body; an OSError where nobody answers."""
        address = self.site.WORKER[0][version == 6]
        with self.site.hosts["client0"].entered():
            if context is None:
                connection = http.client.HTTPConnection(address, 9091, timeout=timeout)
            else:
                connection = http.client.HTTPSConnection(address, 9091, timeout=timeout, context=context)
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                return answer.status, answer.read().decode()
            finally:
                connection.close()

    def refused(self, context: ssl.SSLContext | None = None) -> bool:
        """Whether no page comes, whatever comes instead."""
        try:
            self.get(context=context)
        except (OSError, http.client.HTTPException):
            return True
        return False


def change(site: Site, number: int) -> float:
    """Seconds from a change of policy to the kernel, as the engine tells it."""
    site.agent.wait_applied(site.etcd.put(d.policy_key("x"), d.policy("x", 50, [d.to_ports("Deny", [9000 + number], "TCP")])))
    return float(site.agent.log_lines("applied")[-1]["seconds"])


def size(pid: int, what: str) -> int:
    return len(os.listdir(f"/proc/{pid}/{what}"))


@sizes("seconds", short=4, full=60)
def test_p1_clients_that_mean_no_good(exposed: Site, figures: Figures, seconds: float) -> None:
    """Threads and files are bounded, changes get into the kernel as fast as ever, whoever asks properly is answered."""
    agent, client = exposed.agent, Client(exposed)
    assert client.get()[0] == 200
    with pytest.raises(OSError, match="timed out"):
        client.get(version=6, timeout=1)  # no policy opens it
    quiet = [change(exposed, number) for number in range(20)]
    threads, files, cpu, began = size(agent.pid, "task"), size(agent.pid, "fd"), agent.cpu_seconds(), time.monotonic()
    words = ("-S", "-E", str(ABUSE), exposed.WORKER[0][0], "9091", str(seconds))
    abuse = exposed.hosts["client0"].popen(sys.executable, *words, stdout=subprocess.PIPE)
    under, most = [], [0, 0]
    try:
        while abuse.poll() is None:
            under.append(change(exposed, len(under)))
            most = [max(most[0], size(agent.pid, "task")), max(most[1], size(agent.pid, "fd"))]
            assert agent.health("readiness")[0] == 200
        seen = json.loads(abuse.communicate(timeout=20)[0])
    finally:
        abuse.kill()
        abuse.wait()
    share = (agent.cpu_seconds() - cpu) / (time.monotonic() - began)
    assert client.get()[0] == 200
    assert exposed.reached() == GUARDED
    for what in ("idle", "slow", "big", "scrapes"):
        figures.tell(
            "P1", {"big": "megabytes of headers", "scrapes": what}.get(what, f"{what} connections"), seen[what], how="sum"
        )
    figures.tell("P1", "threads more", most[0] - threads)
    figures.tell("P1", "files more", most[1] - files)
    figures.tell("P1", "share of a core", share)
    figures.tell("P1", "slowest scrape", seen["slowest scrape"], "s")
    figures.tell("P1", "median of an apply without", statistics.median(quiet), "s")
    figures.tell("P1", "median of an apply", statistics.median(under), "s")
    figures.tell("P1", "slowest apply", max(under), "s")
    assert most[0] <= threads
    assert most[1] <= files + 80
    assert seen["idle"] >= 1000
    assert seen["big refused"] <= seen["big"]
    assert seen["scrapes answered"] > 0.9 * seen["scrapes"]
    assert statistics.median(under) < 10 * statistics.median(quiet) + 0.05


class Authority:
    """A certificate authority with a folder of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.cert = folder, authority(folder, "ca")

    def issue(self, name: str) -> tuple[Path, Path]:
        return issue(self.folder, self.cert, name)

    def trusted(self, files: tuple[Path, Path] | None = None, newest: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """A client that trusts this authority, with a certificate of its own or none."""
        context = ssl.create_default_context(cafile=str(self.cert))
        context.check_hostname = False  # the server's certificate names loopback; who signed it is what counts here
        if files is not None:
            context.load_cert_chain(*map(str, files))
        if newest is not None:
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version, context.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, newest
        return context


class Mounted:
    """Certificates as Kubernetes mounts a Secret: links through one link, which is swapped for all of them at once."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.number = folder, 0

    def put(self, **files: str) -> None:
        self.number += 1
        version = self.folder / f"..{self.number}"
        version.mkdir()
        for name, text in files.items():
            (version / name).write_text(text)
            if not (link := self.folder / name).is_symlink():
                link.symlink_to(f"..data/{name}")
        (self.folder / "..new").symlink_to(version.name)
        (self.folder / "..new").rename(self.folder / "..data")


def configure(site: Site, **spec: object) -> None:
    document = {"metadata": {"name": "default"}, "spec": spec}
    site.agent.wait_applied(site.etcd.put(f"{d.ROOT}felixconfigurations/default", document))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_p2_only_whom_the_authority_vouches_for(exposed: Site, tmp_path: Path) -> None:
    """TLS comes with a change of settings; then nobody is let in without it, or with anybody else's certificate. New
    certificates are used, broken ones aren't; all of it in one process."""
    agent, client, began = exposed.agent, Client(exposed), exposed.agent.status()["startedAt"]
    ours, theirs, mounted = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs"), Mounted(tmp_path / "mounted")
    server, right, wrong = ours.issue("server"), ours.issue("client"), theirs.issue("client")

    def put(ca: Authority, server: tuple[Path, Path]) -> None:
        mounted.put(ca=ca.cert.read_text(), cert=server[0].read_text(), key=server[1].read_text())

    put(ours, server)
    assert client.get()[0] == 200, "plain, as nothing else is asked for"
    paths = {f"prometheusMetrics{name}File": str(mounted.folder / name.lower()) for name in ("CA", "Cert", "Key")}
    configure(exposed, **paths)
    exposed.until("it speaks TLS", lambda: not client.refused(ours.trusted(right)))
    assert client.get(context=ours.trusted(right))[1].startswith("# HELP")
    matrix = {
        "no TLS": None,
        "no certificate": ours.trusted(),
        "another authority's certificate": ours.trusted(wrong),
        "an expired certificate": ours.trusted(expired(ours.folder, ours.cert, "old", "DNS:old")),
        "TLS 1.1": ours.trusted(right, ssl.TLSVersion.TLSv1_1),
        "a client that trusts others": theirs.trusted(right),
    }
    assert {what: client.refused(context) for what, context in matrix.items()} == dict.fromkeys(matrix, True)

    put(theirs, theirs.issue("server"))
    assert not client.refused(theirs.trusted(wrong)), "new certificates count from the next connection on"
    assert client.refused(theirs.trusted(right))
    assert client.refused(ours.trusted(right))
    mounted.put(ca="no certificate", cert="nor this", key="nor that")
    assert not client.refused(theirs.trusted(wrong)), "the last good ones are used"
    put(ours, server)
    assert not client.refused(ours.trusted(right))

    configure(exposed, **paths | {"prometheusMetricsKeyFile": str(tmp_path / "missing")})
    exposed.until("nobody is let in", lambda: client.refused(ours.trusted(right)))
    assert client.refused()
    assert exposed.reached() == GUARDED
    assert agent.status()["startedAt"] == began
    told = agent.log_file.read_text()
    assert "new TLS files can't be used" in told
    assert "missing: No such file" in told
    assert server[1].read_text().splitlines()[1] not in told


LABELS = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
KNOWN = {"kind", "type", "state", "reason", "table", "ip_version", "action"}


def series(text: str) -> set[str]:
    return {line.rpartition(" ")[0] for line in text.splitlines() if line and not line.startswith("#")}


def test_p3_names_that_others_choose_make_no_endless_labels(exposed: Site, figures: Figures) -> None:
    """Kinds that nobody knows, objects that are set aside, settings that don't exist, interfaces that come and go."""
    agent = exposed.agent
    before = series(agent.metrics())
    evil = ['a"b', "a\\\\b", "a\\nb", "{x=1}", "é" * 40]
    writes = {f"{d.ROOT}kind{number}s/x": "{}" for number in range(200)}
    writes |= {
        f"{d.ROOT}{kind.plural}/{'ns/' if kind.namespaced else ''}default.{n}": "broken"
        for kind in KINDS.values()
        for n in range(20)
    }
    writes |= {f"{d.ROOT}globalnetworkpolicies/default.{name}": "broken" for name in evil}
    settings = {f"setting{number}": number for number in range(200)}
    writes[f"{d.ROOT}felixconfigurations/default"] = json.dumps({"metadata": {"name": "default"}, "spec": settings})
    keys = list(writes)
    for start in range(0, len(keys), 100):
        exposed.etcd.transaction({key: writes[key] for key in keys[start : start + 100]})
    for start in range(0, 60, 20):
        names = [f"cali{number}" for number in range(start, start + 20)]
        exposed.worker.ip(*(f"link add {name} type veth peer name p{name}" for name in names))
        agent.wait("they are cut off", lambda names=names: set(names) <= set(agent.status()["cutOff"]))
        exposed.worker.ip(*(f"link delete {name}" for name in names))
    agent.wait_applied(exposed.etcd.revision())
    agent.wait("they are gone", lambda: not agent.status()["cutOff"])
    began = time.monotonic()
    text = agent.metrics()
    took, new = time.monotonic() - began, series(text) - before
    figures.tell("P3", "series without", len(before))
    figures.tell("P3", "series", len(before | new))
    figures.tell("P3", "bytes of a scrape", len(text), "B")
    figures.tell("P3", "a scrape takes", took, "s")
    assert agent.metric("hostward_objects_set_aside") > 200
    assert len(new) < 100, sorted(new)
    values: dict[str, set[str]] = {}
    for name, value in (pair for one in series(text) for pair in LABELS.findall(one)):
        values.setdefault(name, set()).add(value)
    assert values["kind"] <= set(KINDS)
    assert not [value for found in values.values() for value in found if "cali" in value or "setting" in value]
    assert not any(symbol in value for name in KNOWN & set(values) for value in values[name] for symbol in '"{é')
    assert len(text) < 1_000_000
    assert exposed.reached() == GUARDED
