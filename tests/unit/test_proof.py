"""The engine touches no kernel before the self-test has passed, and the agent ends where it doesn't."""

from __future__ import annotations

import sys
import threading

from hostward.dataplane.xtables.selftest import SelfTest
from hostward.engine.proof import Proof
from hostward.report.threads import Threads

WITHIN = 30.0


def proof(code: str) -> tuple[Proof, Threads, SelfTest]:
    tested, threads = SelfTest((sys.executable, "-c", code)), Threads("a bug")
    made = Proof(tested, threads)
    made.start()
    return made, threads, tested


def test_once_the_test_has_passed_the_kernel_may_be_touched() -> None:
    made, threads, _ = proof("print('fences hold')")
    assert made.wait()
    assert not threads.stop.is_set()
    assert not threads.failed


def test_a_test_that_fails_ends_the_agent() -> None:
    made, threads, _ = proof("raise SystemExit('broken')")
    assert not made.wait()
    assert threads.stop.wait(WITHIN)
    assert threads.failed


def test_an_agent_that_ends_meanwhile_has_not_failed() -> None:
    made, threads, tested = proof("import time; time.sleep(60)")
    found: list[bool] = []
    waiting = threading.Thread(target=lambda: found.append(made.wait()))
    waiting.start()
    threads.stop.set()
    tested.abandon()
    waiting.join(WITHIN)
    assert found == [False]
    assert not threads.failed
