"""`version --poll`: in a process of its own, ended as a person ends it."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from hostward import __version__
from tests.unit.command_line import V3, CommandLine

# Whoever runs the tests in the background may have them ignore SIGINT; a person's shell doesn't.
_HEARS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
_RUN = f"{_HEARS}; import sys; from hostward.cli.main import main; sys.exit(main())"
CLIENT = f"Client Version:    {__version__}\n"


@pytest.fixture
def polling(tmp_path):
    """A running `version --poll 100ms` on a directory."""
    (tmp_path / "store").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", _RUN, "--poll", "100ms", "version", "--datastore", f"dir:{tmp_path / 'store'}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    last_resort = threading.Timer(60, process.kill)  # readers would wait for ever for a line that doesn't come
    last_resort.start()
    with process:
        try:
            yield process
        finally:
            last_resort.cancel()
            process.kill()


def information(directory, version):
    spec = f"{{calicoVersion: {version}, clusterType: hostward, clusterGUID: {'a' * 32}}}"
    (directory / "new").write_text(V3.format(kind="ClusterInformation", name="default", spec=spec))
    os.replace(directory / "new", directory / "ci.yaml")


def answer(process):
    return [process.stdout.readline().split()[-1] for _ in range(2)]


def test_polling_prints_what_changed_until_it_is_interrupted(polling, tmp_path):
    assert polling.stdout.readline() == CLIENT
    assert answer(polling) == ["unknown", "unknown"]
    information(tmp_path / "store", "v3.1.0")
    assert answer(polling) == ["v3.1.0", "hostward"]
    (tmp_path / "store").rename(tmp_path / "away")  # trouble is told once, and outlived
    error = polling.stderr.readline()
    assert error.startswith("failed to read the cluster's version: ")
    assert error.endswith("; trying again every 0.1 s\n")
    information(tmp_path / "away", "v3.2.0")
    (tmp_path / "away").rename(tmp_path / "store")
    assert answer(polling) == ["v3.2.0", "hostward"]
    time.sleep(0.4)  # some polls that find nothing new, and print nothing
    polling.send_signal(signal.SIGINT)
    out, err = polling.communicate(timeout=60)
    assert (polling.returncode, out, err) == (130, "", "\n")  # the line of ^C is ended


@pytest.mark.parametrize(
    ("value", "text"),
    [("soon", "is not a duration like 90s"), ("-1s", "is not a duration"), ("1ms", "is out of range: 0 or at least 0.1s")],
)
def test_what_is_no_interval(tmp_path, monkeypatch, capsys, value, text):
    hw = CommandLine(tmp_path, monkeypatch, capsys)
    assert text in hw.fails("version", "--poll", value, code=2)


def test_no_polling(tmp_path, monkeypatch, capsys):
    hw = CommandLine(tmp_path, monkeypatch, capsys)
    assert hw.ok("version", "--poll", "0") == CLIENT
    assert hw.ok("version", "--poll", "1s", "--client") == CLIENT
