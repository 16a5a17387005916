"""The sandbox that systemd would make of a unit's settings: the same user, capabilities, mounts, and syscall filters.

Made of the unit file itself by bubblewrap, setpriv and libseccomp, as no systemd runs here. A setting that this module doesn't
know is an error: it is added here, or the sandbox would be another than the unit's.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from tests.lab import confine, seccomp
from tests.lab.agent import ROOT, is_readable_by_all
from tests.lab.units import Unit

TOOLS = ("bwrap", "setpriv", "systemd-analyze")
UID = 64646
"""Stands for the unit's user: a number that has no name, as no user is made on this machine."""

# The value that is carried out here; another one is a change that this module must learn.
KNOWN = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "PrivateMounts": "yes",
    "ProtectControlGroups": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "RestrictNamespaces": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallErrorNumber": "EPERM",
    "StateDirectory": "hostward",
    # The two capabilities and the list of syscalls rule out what these forbid.
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "RestrictRealtime": "yes",
    "RemoveIPC": "yes",
}
TAKEN = {
    *("User", "Group", "CapabilityBoundingSet", "AmbientCapabilities", "RestrictAddressFamilies", "SystemCallFilter", "UMask"),
}
OF_THE_MANAGER = {
    *("Type", "WatchdogSec", "EnvironmentFile", "ExecStartPre", "ExecStart", "Restart", "RestartSec"),
    *("TimeoutStartSec", "TimeoutStopSec", "StateDirectoryMode", "OOMScoreAdjust"),
}


# By ProtectHome=, PrivateTmp= and ProtectKernelModules=.
HIDDEN = ("/home", "/root", "/tmp", "/var/tmp", "/usr/lib/modules")


def why_not() -> str:
    """What keeps this machine from making the sandbox, "" for nothing."""
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"needs {', '.join(missing)}"
    hidden = str(ROOT).startswith(HIDDEN) and sys.prefix.startswith(HIDDEN)  # then what they are in doesn't matter
    return "" if is_readable_by_all(parents=not hidden) else "needs a checkout that every user can read"


# systemd mounts /proc anew for ProtectProc=, and makes /proc/sys read-only for ProtectKernelTunables=.
PROC = "mount -t proc -o hidepid=invisible proc /proc && mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys"


class Sandbox:
    """Where programs of a unit run. `home/run` is their /run, `home/state` their state directory; the rest is read-only."""

    def __init__(self, unit: Unit, home: Path) -> None:
        self.unit, self.home = unit, home
        self.run, self.state, self._filters = home / "run", home / "state", home / "run" / "filters"
        self.check()
        for directory in (self.run, self.state, self._filters):
            directory.mkdir()
        for path in (home, self.run, self._filters):
            path.chmod(0o755)
        programs = {
            "families": seccomp.address_families(unit.words("Service", "RestrictAddressFamilies")),
            "restrictions": seccomp.restrictions(),
            "syscalls": seccomp.syscall_filter(unit.all("Service", "SystemCallFilter")),
        }
        for name, program in programs.items():
            (self._filters / name).write_bytes(program)

    def check(self) -> None:
        """Fails for a setting that is new."""
        for name in self.unit.names("Service"):
            value = self.unit.all("Service", name)
            known = name in TAKEN | OF_THE_MANAGER or value == [KNOWN.get(name)]
            assert known, f"the sandbox of tests doesn't know {name}={value}"

    def _capabilities(self, name: str) -> str:
        """A setting's capabilities as setpriv takes them."""
        words = (word.removeprefix("CAP_").lower() for word in sorted(self.unit.words("Service", name)))
        return ",".join(("-all", *(f"+{word}" for word in words)))

    def command(self, *command: str) -> list[str]:
        """A command in the sandbox, to be run by root in the network namespace where it belongs."""
        bounding, ambient = map(self._capabilities, ("CapabilityBoundingSet", "AmbientCapabilities"))
        filters = [f"/run/filters/{name}" for name in ("families", "restrictions", "syscalls")]
        return [
            "bwrap", *self._mounts(), "--cap-add", "ALL", "--chdir", "/", "--",
            "sh", "-c", f"{PROC} && umask {self.unit.one('Service', 'UMask')} && exec \"$@\"", "sh",
            "setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", "--no-new-privs",
            "--bounding-set", bounding, "--inh-caps", ambient, "--ambient-caps", ambient,
            sys.executable, "-I", "-B", confine.__file__, *filters, "--", *command,
        ]  # fmt: skip # one thought a line

    def _mounts(self) -> list[str]:
        words = ["--ro-bind", "/", "/", "--dev", "/dev", "--ro-bind", str(self.run), "/run"]
        for path in HIDDEN:
            if os.path.isdir(path):
                words += ["--perms", "1777" if path.endswith("tmp") else "0755", "--tmpfs", path]
        words += ["--tmpfs", "/var/lib", "--bind", str(self.state), f"/var/lib/{KNOWN['StateDirectory']}"]
        for path in sorted({str(ROOT), sys.prefix, sys.base_prefix}):
            if path.startswith(tuple(f"{hidden}/" for hidden in HIDDEN)):  # as if it were in /opt
                words += ["--ro-bind", path, path]
        return words
