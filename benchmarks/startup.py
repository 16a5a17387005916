"""Parts of the agent's start in a process of their own: prints the milliseconds that one takes, or the MiB of the imports."""

from __future__ import annotations

import sys
import time
from importlib import import_module
from pathlib import Path

IMPORT, DECODE, RESIDENT = "import", "decode", "resident"
PARTS = ("hostward.cli.agent", "hostward.daemon", "hostward.datastore.etcd.feed")
"""What the command imports: the feed when it is chosen."""


def _import() -> float:
    began = time.perf_counter()
    for name in PARTS:
        import_module(name)
    return time.perf_counter() - began


def _decode(host: str, port: int) -> float:
    """A feed's first snapshot, and every object in it decoded; a connection is part of it, imports are not."""
    _import()
    import threading  # noqa: PLC0415 # with as few imports as can be when `_import` measures them

    from hostward.datastore.opening import open_feed  # noqa: PLC0415 # the same
    from hostward.engine.mailbox import Mailbox  # noqa: PLC0415 # the same
    from hostward.model import keys  # noqa: PLC0415 # the same
    from hostward.model.decode import decode  # noqa: PLC0415 # the same

    began = time.perf_counter()
    mailbox, stop = Mailbox(), threading.Event()
    feed = open_feed("etcd", {"ETCD_ENDPOINTS": f"http://{host}:{port}"})
    thread = threading.Thread(target=feed.run, args=(mailbox, stop), daemon=True)
    thread.start()
    batch = mailbox.take(60)
    assert batch is not None
    assert batch.snapshot
    for path, stored in batch.objects.items():
        key = keys.parse(path)
        if key is not None and stored is not None:
            decode(key, stored.value)
    seconds = time.perf_counter() - began
    stop.set()
    thread.join(5)
    return seconds


def _resident() -> float:
    _import()
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


if __name__ == "__main__":
    if sys.argv[1] == RESIDENT:
        print(_resident())
        sys.exit()
    print((_import() if sys.argv[1] == IMPORT else _decode(sys.argv[2], int(sys.argv[3]))) * 1000)
