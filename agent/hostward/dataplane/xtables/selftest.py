"""Tries, in a child process, the faults of python-iptables that would end or maim this one, and that our fences hold.

A newer python-iptables, libxtables or Python can bring them back; the agent must know before it depends on them. Run at start.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Final

from hostward.dataplane.kernel import KernelError

BAD_OPTIONS: Final = 1200  # more than the 991 after which an unfenced CPython 3.13 was lost (statements.md libraries 1.3)
SCRATCH_USES: Final = 300
_TIMEOUT_SECONDS: Final = 120
_PASSED: Final = "fences hold"
_NAME: Final = "the self-test of the iptables libraries"
LIBRARIES: Final = (
    "install python-iptables 1.2.0 and the package iptables (libip4tc, libip6tc, libxtables.so.12); where its extensions are "
    "in an unusual directory, set XTABLES_LIBDIR"
)


class SelfTest:
    """A test that runs in a process of its own from now on, while this one starts."""

    def __init__(self, command: tuple[str, ...] = (sys.executable, "-m", "hostward.dataplane.xtables.selftest")) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._error: OSError | None = None
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        except OSError as error:
            self._error = error

    def result(self) -> None:
        """Waits for it. Raises KernelError that says what to do when a fence doesn't hold, or the libraries can't be loaded."""
        if self._process is None:
            raise KernelError(f"{_NAME} did not run: {self._error}", do=LIBRARIES) from self._error
        try:
            out, errors = self._process.communicate(timeout=_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired as error:
            self._process.kill()
            self._process.communicate()
            raise KernelError(f"{_NAME} did not end: {error}", do="give the agent more CPU time") from error
        code = self._process.returncode
        if code == 0 and _PASSED in out:
            return
        if code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
        else:
            how = (errors.strip().splitlines() or [f"ended with exit code {code}"])[-1]
        raise KernelError(f"{_NAME} failed: {how}. Nothing was changed", do=LIBRARIES)

    def abandon(self) -> None:
        """Ends it, when the agent won't start anyway; another thread may be waiting for its result."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def main() -> None:
    """What the child does."""
    from hostward.dataplane.xtables import compat  # noqa: PLC0415 # loading the libraries is part of the test

    before = os.fstat(1)
    ports = ",".join(str(port) for port in range(1, 17))  # one more than there is room for
    for _ in range(BAD_OPTIONS):
        try:
            compat.compile_match(4, "multiport", [("destination-ports", (ports,), False)])
        except compat.OptionError:
            continue
        raise SystemExit("a bad option was taken")
    for number in range(SCRATCH_USES):
        compat.compile_target(6 if number % 2 else 4, "NFLOG", [("nflog-prefix", (f"prefix-{number}",), False)])
    compat.compile_match(4, "multiport", [("destination-ports", ("1,2:3",), False)])
    if os.fstat(1).st_ino != before.st_ino:
        raise SystemExit("file descriptor 1 was redirected")
    sys.stdout.write(_PASSED)


if __name__ == "__main__":
    main()
