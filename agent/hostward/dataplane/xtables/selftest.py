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

BAD_OPTIONS: Final = 1200  # more than the 991 after which an unfenced CPython 3.13 was lost (libraries.md 1.3)
SCRATCH_USES: Final = 300
_TIMEOUT_SECONDS: Final = 120
_PASSED: Final = "fences hold"


def self_test(command: tuple[str, ...] = (sys.executable, "-m", "hostward.dataplane.xtables.selftest")) -> None:
    """Raises KernelError that says what to do when a fence doesn't hold, or the libraries can't be loaded."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelError(f"the self-test of the iptables libraries did not run: {error}") from error
    if done.returncode == 0 and _PASSED in done.stdout:
        return
    if done.returncode < 0:
        how = f"was ended by {signal.Signals(-done.returncode).name}"
    else:
        how = (done.stderr.strip().splitlines() or [f"ended with exit code {done.returncode}"])[-1]
    raise KernelError(
        f"the self-test of the iptables libraries failed: {how}. Nothing was changed. The agent needs python-iptables 1.2.0 "
        "and the package iptables (libip4tc, libip6tc, libxtables.so.12); where its extensions are in an unusual directory, "
        "set XTABLES_LIBDIR"
    )


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
