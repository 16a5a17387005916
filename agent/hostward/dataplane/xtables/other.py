"""Whether the other variant of iptables, on nftables, holds rules on this host: then people may look for ours in vain.

Both variants are evaluated by the kernel, so this is for a warning only. Any thread.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import Final

_PROGRAM: Final = "iptables-nft-save"
_TIMEOUT_SECONDS: Final = 20


def foreign_backend_in_use() -> str | None:
    """A sentence for the operator when iptables-nft has rules or kube-proxy's chains in its filter table, else None."""
    program = shutil.which(_PROGRAM)
    if program is None:
        return None
    try:
        done = subprocess.run([program, "-t", "filter"], capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.splitlines()
    rules = sum(line.startswith("-A ") for line in lines)
    kube = any(line.startswith(":KUBE-") for line in lines)
    if not rules and not kube:
        return None
    whose = ", kube-proxy's among them," if kube else ""
    return (
        f"iptables-nft holds {rules} rules{whose} in its filter table, while this agent writes to iptables-legacy: both are "
        "enforced, a packet must pass both, and `iptables` may show only one of them (see `iptables -V`)"
    )
