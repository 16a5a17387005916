"""etcd is slow, its leader moves, its certificates are wrong: R3, R7, R8."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e import documents as d
from tests.lab.certificates import authority, expired, issue, revoke
from tests.lab.etcd import Etcd, Tls
from tests.lab.etcd_cluster import EtcdCluster
from tests.lab.figures import Figures, percentile, sizes
from tests.lab.slow_link import SlowLink
from tests.lab.topology import WorkerLab
from tests.reliability.rig import GatewayWriter, Rig, latencies, once_more

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
LOST = "datastore lost, what is in force stays"
BACK = "datastore is back"
SECRET = "a-secret-of-this-test"


def one_more(writer: GatewayWriter, number: int) -> int:
    """Writes a set of its own, whose one member the policy `pass` lets in; the revision."""
    nets = [f"10.{number >> 8}.{number & 255}.77"]
    return writer.put(d.set_key(f"more{number}"), d.network_set(f"more{number}", {"side": "client"}, nets))


@sizes("seconds", short=6, full=120)
@once_more
def test_r3_the_leader_moves(figures: Figures, seconds: float) -> None:
    """Every write arrives, each once, and soon, whoever leads."""
    move_every = 5 if figures.full else 2
    with Rig(server=lambda lab: EtcdCluster(lab.store, lab.STORE[0])) as rig:
        writers = [GatewayWriter(member) for member in rig.etcd.members]
        written: dict[int, float] = {}
        moves = 0
        with rig.held(), rig.traffic("R3", figures, 100):
            changed = members_changed(rig)
            began = time.monotonic()
            while (passed := time.monotonic() - began) < seconds:
                if passed > (moves + 1) * move_every:
                    rig.etcd.move_leader()
                    moves += 1
                written[one_more(writers[len(written) % 3], len(written))] = time.time()
                time.sleep(max(0.0, began + len(written) * 0.05 - time.monotonic()))
            rig.agent.wait_applied(max(written))
        for writer in writers:
            writer.close()
        assert members_changed(rig) - changed == len(written), "each write added one member, once"
        assert rig.agent.metric("hostward_repairs_total") == 0
        late = latencies(rig.agent, written)
    figures.tell("R3", "moves of the leader", moves)
    figures.tell("R3", "writes", len(written))
    figures.tell("R3", "missed or done twice", 0)
    figures.below("R3", "write to applied, p99", percentile(late, 0.99), 2)


def members_changed(rig: Rig) -> int:
    """How many members of sets the agent has added and removed, as it says."""
    return sum(line["members_changed"] for line in rig.agent.log_lines("applied"))


@sizes("writes", short=8, full=200)
@once_more
def test_r7_a_slow_link(figures: Figures, writes: int) -> None:
    """Half a second each way, and one piece in twenty stalls: late, but never wrong, and nothing spins or flaps."""
    port = 24_379
    with Rig(env={"ETCD_ENDPOINTS": f"http://{WorkerLab.STORE[0]}:{port}"}, server=lambda lab: Behind(lab, port)) as rig:
        began, cpu = time.monotonic(), rig.agent.cpu_seconds()
        written: dict[int, float] = {}
        with rig.held(), rig.traffic("R7", figures, 100):
            for number in range(writes):
                written[one_more(rig.writer, number)] = time.time()
                time.sleep(0.6)
            rig.agent.wait_applied(max(written))
        share = (rig.agent.cpu_seconds() - cpu) / (time.monotonic() - began)
        late = latencies(rig.agent, written)
        flaps = len(rig.agent.log_lines(LOST))
        assert rig.etcd.link.stalled or not figures.full, "the link was not as bad as it should be"
        figures.tell("R7", "pieces of data that stalled", rig.etcd.link.stalled)
    figures.tell("R7", "writes", writes)
    figures.below("R7", "write to applied, p99", percentile(late, 0.99), 5)
    figures.below("R7", "share of a core", share, 0.2, "")
    figures.tell("R7", "times lost", flaps)
    assert flaps <= 1


class Behind:
    """An etcd behind a slow link; tests write to it directly. Looks like a cluster of one."""

    def __init__(self, lab: WorkerLab, port: int) -> None:
        self.members = [Etcd(lab.store, lab.STORE[0])]
        self.env: dict[str, str] = {}
        self.link = SlowLink(lab.store, lab.STORE[0], port, self.members[0].port, delay=0.5, stalls=0.05, seed=7)

    def __enter__(self) -> Behind:
        self.link.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.link.__exit__(None)
        self.members[0].close()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    home = tmp_path_factory.mktemp("tls")
    ca = authority(home, "ca")
    there = f"IP:{WorkerLab.STORE[0]},IP:127.0.0.1"
    return Tls(ca, *issue(home, ca, "server", there), *issue(home, ca, "client", there))


def wrong_authority(home: Path, server: Etcd, good: Tls) -> str:
    """The server shows a certificate of somebody else."""
    other = authority(home, "other")
    there = f"IP:{server.address},IP:127.0.0.1"
    server.tls = Tls(good.ca, *issue(home, other, "imposter", there), good.client_cert, good.client_key)
    return "certificate isn't signed by the given CA"


def server_expired(home: Path, server: Etcd, good: Tls) -> str:
    """The server's certificate was good until yesterday."""
    cert, key = expired(home, good.ca, "stale", f"IP:{server.address},IP:127.0.0.1")
    server.tls = Tls(good.ca, cert, key, good.client_cert, good.client_key)
    return "certificate"


def client_revoked(home: Path, server: Etcd, good: Tls) -> str:
    """The server's list of revoked certificates has ours."""
    server.options += ["--client-crl-file", str(revoke(home, good.ca, good.client_cert))]
    return "client certificate"


TROUBLES: tuple[Callable[[Path, Etcd, Tls], str], ...] = (wrong_authority, server_expired, client_revoked)


def test_r8_certificates_that_are_wrong(figures: Figures, tls: Tls, tmp_path: Path) -> None:
    """Each is told in words, within seconds; the rules stay; no log, page or file has a secret; then it is well again."""
    slowest = 0.0
    with Rig(server=lambda lab: Etcd(lab.store, lab.STORE[0], tls=tls)) as rig:
        before = rig.fingerprint()
        options = list(rig.etcd.options)
        for number, trouble in enumerate(TROUBLES):
            home = tmp_path / str(number)
            home.mkdir()
            rig.etcd.stop()
            words = trouble(home, rig.etcd, tls)
            rig.etcd.launch()
            began = time.monotonic()
            rig.agent.wait(trouble.__name__, lambda words=words: words in last_reason(rig))
            slowest = max(slowest, time.monotonic() - began)
            assert rig.fingerprint() == before
            rig.alive()
            rig.etcd.kill()
            rig.etcd.tls, rig.etcd.options = tls, list(options)
            rig.etcd.start()
            rig.until("it is well again", lambda: not rig.is_lost())
        rig.agent.wait_applied(rig.change())
        secrets = [path.read_text(encoding="ascii").splitlines()[1] for path in (tls.client_key, tls.server_key)]
        assert not found(rig, secrets)
    figures.tell("R8", "kinds of wrong certificates", len(TROUBLES))
    figures.below("R8", "told after", slowest, 5)
    figures.tell("R8", "secrets in logs, metrics, status", 0)


def test_r8_a_user_that_is_shut_out(figures: Figures) -> None:
    """The user's password changes while the agent follows: as soon as it needs a new token it says why it gets none."""
    env = {"ETCD_ENDPOINTS": f"http://{WorkerLab.STORE[0]}:2379", "ETCD_USERNAME": "agent", "ETCD_PASSWORD": SECRET}
    with Rig(server=with_users, env=env) as rig:
        before = rig.fingerprint()
        rig.etcd.ctl("user", "passwd", "agent", "--interactive=false", data=b"another-secret\n")
        rig.etcd.kill()  # tokens die with it
        rig.etcd.launch()
        words = "refuses this user name or password"
        took = rig.until("it is told", lambda: words in last_reason(rig))
        rig.etcd.wait_ready()
        assert rig.fingerprint() == before
        rig.alive()
        rig.etcd.ctl("user", "passwd", "agent", "--interactive=false", data=f"{SECRET}\n".encode())
        rig.until("it is well again", lambda: not rig.is_lost())
        rig.agent.wait_applied(rig.change())
        assert not found(rig, [SECRET, "another-secret"])
    figures.below("R8", "told after", took, 5)


def with_users(lab: WorkerLab) -> Etcd:
    """A server with a user who may do everything, for tests, and one for the agent."""
    server = Etcd(lab.store, lab.STORE[0])
    for user in ("root", "agent"):
        server.ctl("user", "add", f"{user}:{SECRET}")
        server.ctl("user", "grant-role", user, "root")
    server.ctl("auth", "enable")
    server.user = f"root:{SECRET}"
    return server


def last_reason(rig: Rig) -> str:
    """Why the datastore is lost, as the log said last; "" where it isn't."""
    lines = [line for line in rig.agent.log_lines() if line["event"] in {LOST, BACK}]
    return str(lines[-1].get("reason", "")) if lines else ""


def found(rig: Rig, secrets: list[str]) -> list[str]:
    """Where the agent shows one of these."""
    status = (rig.agent.state / "status.json").read_text(encoding="utf-8")
    places = {
        "log": rig.agent.log_file.read_text(encoding="utf-8"),
        "metrics": rig.agent.metrics(),
        "status": status + rig.agent.command("status").stdout,
        "health": rig.agent.health("readiness")[1] + rig.agent.health("liveness")[1],
        "command line": Path(f"/proc/{rig.agent.pid}/cmdline").read_text(encoding="utf-8"),
    }
    return [place for place, text in places.items() if any(secret in text for secret in secrets)]
