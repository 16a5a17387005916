"""Tells the story; exit 0 if every attempt went as it should, 1 if not, 2 if it can't be told here."""

from __future__ import annotations

import os
import shutil
import sys
import time

from demo import table
from demo.story import Story

TOOLS = ("ip", "iptables-legacy-restore", "ip6tables-legacy-restore", "conntrack", "etcd", "etcdctl")
PICTURE = """
  internet 203.0.113.5    --+
  office   203.0.113.133  --+-- public net -- eth1  WORKER  eth0 -- private net --+-- peer 10.0.20.5
  manager  198.51.100.133 --+                       pods                          +-- etcd 10.0.30.5
                                                      |
                              pod 172.30.1.5 --- (no workload prefix: as if on another node)
"""


def main() -> int:
    """The exit code."""
    if os.geteuid() != 0:
        print("The demo makes network namespaces: run it as root, for example by `sudo make demo`.", file=sys.stderr)
        return 2
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        print(f"Not found: {', '.join(missing)}. `make setup` installs what is needed.", file=sys.stderr)
        return 2
    begun = time.monotonic()
    table.say("Hostward guards a worker: every cell below is a real connection attempt, in network namespaces of its own.")
    table.say(PICTURE)
    with Story() as story:
        try:
            story.tell()
        except (AssertionError, RuntimeError, OSError) as error:
            print(f"\nThe story broke off: {error}", file=sys.stderr)
            return 1
        wrong = story.wrong
    table.say("")
    if wrong:
        print(f"{len(wrong)} attempts did not go as they should:", *wrong, sep="\n  ", file=sys.stderr)
        return 1
    table.say(f"Every attempt went as it should. {time.monotonic() - begun:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
