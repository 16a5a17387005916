"""Logs: lines whatever is in them, no secrets, no waiting for stderr."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from hostward.report import logs, secrets
from hostward.report.log_fold import Fold
from hostward.report.log_lines import console_line, json_line, prepare
from hostward.report.log_writer import LogWriter


@pytest.fixture
def out() -> Iterator[io.BufferedReader]:
    """The reading end of what the logs write to."""
    reading, writing = os.pipe()
    logs.configure("INFO", "json", fd=writing)
    with open(reading, "rb") as reader:
        yield reader
        logs.configure("INFO", "auto", fd=2)
        os.close(writing)
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if type(handler).__module__ != logs.__name__]
    structlog.reset_defaults()


def lines(out: io.BufferedReader) -> list[dict[str, object]]:
    assert logs.configure("INFO", "json", fd=logs._pipe.writer.fd).flush(5)
    os.set_blocking(out.fileno(), False)
    return [json.loads(line) for line in (out.read() or b"").splitlines()]


def test_a_line_says_when_what_and_with_which_fields(out):
    log = logs.get_logger(node="w1")
    log.info("policies applied", policies=["a"], rules=12, seconds=0.5)
    log.debug("not shown")
    (line,) = lines(out)
    assert list(line) == ["timestamp", "level", "event", "node", "policies", "rules", "seconds"]
    assert line["event"] == "policies applied"
    assert line["level"] == "info"
    assert str(line["timestamp"]).endswith("Z")


def test_an_exception_is_one_line_without_local_variables(out):
    local_value = 424242
    try:
        _ = [][local_value]
    except IndexError:
        logs.get_logger().exception("apply failed")
    (line,) = lines(out)
    assert line["level"] == "error"
    assert "IndexError: list index out of range" in str(line["exception"])
    assert "424242" not in str(line["exception"]).replace("local_value = 424242", "")


def test_libraries_and_structlog_s_own_loggers_go_the_same_way(out, capfd):
    logging.getLogger("grpc").warning("channel %s", "lost")
    structlog.get_logger().warning("from structlog", a=1)
    logging.getLogger("grpc").info("not shown")
    assert [line["event"] for line in lines(out)] == ["channel lost", "from structlog"]
    assert capfd.readouterr().out == ""


def test_repeats_are_folded_but_not_what_differs(out):
    log = logs.get_logger()
    for _ in range(50):
        log.error("etcd is away", address="10.0.0.1")
        log.info("said each time")
    log.error("etcd is away", address="10.0.0.2")
    found = lines(out)
    assert [line["address"] for line in found if line["event"] == "etcd is away"] == ["10.0.0.1", "10.0.0.2"]
    assert sum(line["event"] == "said each time" for line in found) == 50


def test_lines_that_end_a_state_are_never_folded(out):
    for _ in range(3):
        logs.get_logger().warning("lost", reason="same", turn=True)
        logs.get_logger().info("back")
    assert [line["event"] for line in lines(out)] == ["lost", "back"] * 3
    assert not any("turn" in line for line in lines(out))


def test_fold_counts_what_it_folded():
    now = [0.0]
    fold = Fold(lambda: now[0], interval=10, max_kinds=2)
    assert [fold.admit("a") for _ in range(4)] == [0, None, None, None]
    now[0] = 10
    assert fold.admit("a") == 3
    assert fold.folded == 3
    assert [fold.admit("b"), fold.admit("c"), fold.admit("a")] == [0, 0, 0]  # forgotten: memory is bounded


def test_a_blocked_stderr_stops_nobody():
    reading, writing = os.pipe()
    writer = LogWriter(writing, max_lines=100)
    for number in range(100_000 // 50):
        writer.put(b"x" * 1000 + b"%d\n" % number)
    assert writer.dropped > 1500
    assert not writer.flush(0.01)
    with open(reading, "rb") as reader:
        drained = threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(reader.fileno(), 65536), b"")])
        drained.start()
        assert writer.flush(5)
        writer.put(b"again\n")
        assert writer.flush(5)
        writer.close()
        os.close(writing)
        drained.join(5)
    assert writer.failed == 0


def test_a_closed_stderr_is_counted_and_stops_nobody():
    reading, writing = os.pipe()
    os.close(reading)
    writer = LogWriter(writing)
    for _ in range(3):
        writer.put(b"x\n")
        assert writer.flush(5)
    assert writer.failed == 3
    writer.close()
    os.close(writing)


def test_a_non_blocking_stderr_loses_nothing():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    writer = LogWriter(writing)
    for _ in range(300):
        writer.put(b"x" * 999 + b"\n")
    got = 0
    while got < 300_000:
        got += len(os.read(reading, 65536))
    assert writer.flush(5)
    assert (got, writer.failed, writer.dropped) == (300_000, 0, 0)
    writer.close()
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(
    "text",
    [
        "https://root:hunter22@etcd:2379/",
        "connecting with password=hunter22, retrying",
        '{"etcdPassword": "hunter22"}',
        "Authorization: Bearer hunter22hunter22",
        "-----BEGIN RSA PRIVATE KEY-----\nhunter22\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nhunter22",
    ],
)
def test_secrets_are_masked(text):
    for line in (json_line(prepare({"event": text, "x": [{"y": text}]})), console_line(prepare({"event": text}))):
        assert b"hunter22" not in line
        assert b"***" in line


def test_registered_secrets_and_secret_fields_are_masked():
    secrets.hide("correct horse")
    assert b"horse" not in json_line(prepare({"event": "user said correct horse!", "error": ValueError("correct horse")}))
    assert prepare({"event": "x", "etcdPassword": "abc", "key": "kept"}) == {"event": "x", "etcdPassword": "***", "key": "kept"}


def test_names_from_the_datastore_can_not_write_to_the_terminal():
    line = console_line(
        prepare({"event": "policy\x1b[2J\nnext", "name": "a\x1b]0;x\x07\nlevel=error", "exception": "a\x1b[2J\nb"})
    )
    assert b"\x1b" not in line
    assert b"\x07" not in line
    assert line.count(b"\n") == 3  # the line, and its traceback of two
    assert console_line(prepare({"timestamp": "T", "level": "info", "event": "set aside", "key": "a b", "n": 3})) == (
        b'T INFO    set aside key="a b" n=3\n'
    )


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no text")


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.just(Broken()) | st.just(Path("/x")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), ANY))
def test_every_event_becomes_one_line(event):
    prepared = prepare(event)
    line = json_line(prepared)
    json.loads(line)
    assert line.count(b"\n") == 1
    assert console_line(prepared).endswith(b"\n")


def test_deep_long_and_odd_values():
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    event = prepare({"event": "\ud800", "deep": deep, "long": "x" * 10**6, "many": list(range(10**5)), "huge": 10**5000})
    assert len(json_line(event)) < 20_000
