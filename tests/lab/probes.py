"""Real attempts from one namespace to another: probes, echo servers, long connections, streams of numbered datagrams.

Each `Probe` in a batch is made at the same time as the others, from a fresh source port unless told otherwise. One helper
process per namespace and role (`tests/lab/worker`), ended by its pid. Knows nothing of Hostward.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.lab.netns import Namespace

ROOT = Path(__file__).parents[2]
TIMEOUT = 0.5  # seconds; a probe that may pass takes about a millisecond


@dataclass(frozen=True)
class Probe:
    """What to try. `proto`: tcp, udp, icmp (also ICMPv6, by the address), sctp-init, or a protocol number.

    `knock`: a TCP handshake is enough, for servers that are not ours.
    """

    address: str
    port: int = 0
    proto: str | int = "tcp"
    source: str | None = None
    source_port: int = 0
    timeout: float = TIMEOUT
    icmp_type: int = 8
    mark: int = 0
    knock: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    `result`: ok (answered), timeout (silence), refused (the host is there, nobody listens), denied (our own host's OUTPUT),
    unreachable, closed, or an error's text. `seen`: the client address that the server saw (tcp, udp). `token`: what
    `Listener.heard` lists when the question arrived, also where the answer did not.
    """

    result: str
    seen: str = ""
    token: str = ""

    def __bool__(self) -> bool:
        return self.result == "ok"


class Helper:
    """One worker process in a namespace, spoken to in JSON lines."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        # -S -E: no site-packages and no environment, so it starts in 50 ms; `ip netns exec` execs, so the pid is its own.
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", namespace.name, sys.executable, "-S", "-E", "-m", "tests.lab.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        try:
            self.answer(20)
        except BaseException:
            self.close()
            raise

    def ask(self, limit: float, /, **command: Any) -> dict[str, Any]:
        """One command, one answer."""
        self.tell(**command)
        return self.answer(limit)

    def tell(self, **command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def answer(self, timeout: float) -> dict[str, Any]:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], timeout)[0]:
            raise TimeoutError(f"the helper in {self.namespace.name} did not answer within {timeout} s")
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the helper in {self.namespace.name} ended with {self.process.wait(5)}; its stderr says why")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise OSError(f"in {self.namespace.name}: {answer['error']}")
        return answer

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue  # a command that it did not live to read

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Prober(Helper):
    """Makes attempts from a namespace; also keeps TCP connections open by name."""

    def probe(self, probes: Iterable[Probe]) -> list[Outcome]:
        """All attempts at once, in the order given; takes as long as the slowest."""
        cells = [asdict(probe) for probe in probes]
        if not cells:
            return []
        limit = max(cell["timeout"] for cell in cells) + 20
        return [Outcome(*items) for items in self.ask(limit, do="probe", cells=cells)["outcomes"]]

    def can_connect(self, address: str, port: int = 0, proto: str | int = "tcp", **options: Any) -> bool:
        """One attempt; `options` as in `Probe`."""
        return bool(self.probe([Probe(address, port, proto, **options)])[0])

    def hold(self, name: str, address: str, port: int, timeout: float = TIMEOUT) -> str:
        """Opens a TCP connection to an echo server and keeps it; "ok" or why not."""
        outcome: str = self.ask(20, do="held", verb="hold", name=name, address=address, port=port, timeout=timeout)["outcome"]
        return outcome

    def still(self, name: str, timeout: float = TIMEOUT) -> str:
        """Whether a held connection still carries data: "ok", "timeout" or what happened."""
        outcome: str = self.ask(20, do="held", verb="ask", name=name, timeout=timeout)["outcome"]
        return outcome


class Listener(Helper):
    """Echo servers of both families: TCP and UDP ports, raw protocol numbers (132 answers SCTP INITs)."""

    def __init__(
        self, namespace: Namespace, tcp: Sequence[int] = (), udp: Sequence[int] = (), protocols: Sequence[int] = ()
    ) -> None:
        super().__init__(namespace)
        try:
            self.ask(10, do="listen", tcp=list(tcp), udp=list(udp), protocols=list(protocols))
        except BaseException:
            self.close()
            raise

    def heard(self) -> list[str]:
        """Tokens of the last 10,000 questions that arrived, whether or not the answer got back."""
        heard: list[str] = self.ask(10, do="heard")["heard"]
        return heard


def can_connect(source: Namespace, address: str, port: int = 0, proto: str | int = "tcp", **options: Any) -> bool:
    """One attempt from a namespace, by a helper of its own (70 ms); for more than one use a `Prober`."""
    with Prober(source) as prober:
        return prober.can_connect(address, port, proto, **options)


def probe_all(table: dict[Prober, list[Probe]]) -> dict[Prober, list[Outcome]]:
    """A table of attempts from several namespaces, all at the same time."""
    for prober, probes in table.items():
        if probes:
            prober.tell(do="probe", cells=[asdict(probe) for probe in probes])
    return {
        prober: [Outcome(*items) for items in prober.answer(30)["outcomes"]] if probes else []
        for prober, probes in table.items()
    }


@dataclass(frozen=True)
class StreamClass:
    """One kind of traffic in a stream: a name, and where its datagrams go."""

    name: str
    address: str
    port: int


@dataclass
class ClassReport:
    """One class: how many were sent (numbers 0 to sent-1), how many our own host refused, and sequence number to
    (sent, arrived) in CLOCK_MONOTONIC nanoseconds of those that arrived."""

    sent: int
    refused: int
    arrived: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def lost(self) -> list[int]:
        """Sequence numbers that did not arrive."""
        return [number for number in range(self.sent) if number not in self.arrived]


class Stream:
    """Numbered UDP datagrams of several classes at once, `rate` a second of each, counted where they arrive.

    `receivers` maps the namespaces where datagrams may arrive to the UDP ports there (after DNAT). Use as a context manager:
    `start()`, whatever is to be disturbed, `finish()`.
    """

    def __init__(
        self, source: Namespace, classes: Sequence[StreamClass], receivers: dict[Namespace, Sequence[int]], *, rate: int = 1000
    ) -> None:
        self.classes, self.rate = list(classes), rate
        self.counters: list[Helper] = []
        self.sender = Helper(source)
        try:
            for namespace, ports in receivers.items():
                self.counters.append(Helper(namespace))
                self.counters[-1].ask(10, do="receive", ports=list(ports))
        except BaseException:
            self.close()
            raise

    def start(self, seconds: float = 600, *, fresh: bool = True) -> None:
        """Begins to send and returns. `fresh`: every datagram from a source port of its own, so each is a new flow."""
        numbered = [{"number": n, "address": c.address, "port": c.port} for n, c in enumerate(self.classes)]
        self.limit = seconds + 60
        self.sender.tell(do="send", classes=numbered, rate=self.rate, seconds=seconds, fresh=fresh)

    def finish(self, *, wait: bool = False) -> dict[str, ClassReport]:
        """Stops sending (`wait`: lets the time run out), lets the last datagrams land, reports by class name."""
        if not wait:
            assert self.sender.process.stdin is not None
            self.sender.process.stdin.write("\n")
            self.sender.process.stdin.flush()
        done = self.sender.answer(self.limit)
        time.sleep(0.3)
        reports = {c.name: ClassReport(done["sent"], done["refused"][str(n)]) for n, c in enumerate(self.classes)}
        for counter in self.counters:
            for number, items in counter.ask(60, do="collect")["arrived"].items():
                reports[self.classes[int(number)].name].arrived.update({seq: (sent, landed) for seq, sent, landed in items})
        return reports

    def close(self) -> None:
        """Ends all helpers."""
        for helper in (self.sender, *self.counters):
            helper.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
