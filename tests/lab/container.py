"""One process in a container, as a node of Kubernetes runs it: the kernel calls of an OCI runtime, in its order.

    python -m tests.lab.container SPEC.json

Own mounts, processes and IPC; network and host name are the caller's (`hostNetwork`). Then: root, bounding set, user (who keeps
capabilities over that, as runc and crun do), capabilities, no_new_privs, seccomp, exec. As process 1 of its namespace, the
command gets no default signal actions. Knows nothing of Hostward and of manifests.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

CAPABILITIES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
""".split()  # noqa: SIM905 # names read better without a quote around each
"""In the order of their numbers."""
REFUSED = """
acct add_key bpf clock_adjtime clock_settime delete_module fanotify_init finit_module fsconfig fsmount fsopen fspick
get_mempolicy init_module ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie mbind mount mount_setattr
move_mount move_pages name_to_handle_at nfsservctl open_by_handle_at open_tree perf_event_open pivot_root
process_vm_readv process_vm_writev quotactl reboot request_key set_mempolicy setdomainname sethostname setns
settimeofday swapoff swapon sysfs _sysctl syslog umount2 unshare uselib userfaultfd ustat vhangup
""".split()  # noqa: SIM905 # names read better without a quote around each
"""What container runtimes' default seccomp profile keeps from a container without CAP_SYS_ADMIN and its like."""
HIDDEN = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""Read-only in every container that isn't privileged."""

_NEWNS, _NEWIPC, _NEWPID = 0x00020000, 0x08000000, 0x20000000
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_PDEATHSIG, _KEEPCAPS, _CAPBSET_DROP, _NO_NEW_PRIVS = 1, 8, 24, 38
_libc = ctypes.CDLL(None, use_errno=True)
_LAST = int(Path("/proc/sys/kernel/cap_last_cap").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Mount:
    """`source` of the machine on `target` of the container; "tmpfs" stands for an empty directory in memory."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class Spec:
    """What to run, on which root. `capabilities` None: root with all that the caller has.

    `handed_over`: whether a user who isn't root keeps them. `changes`: a directory for what is written, if not into `root`.
    """

    root: str
    command: Sequence[str]
    env: Mapping[str, str]
    mounts: Sequence[Mount] = ()
    directory: str = "/"
    user: int = 0
    group: int = 0
    groups: Sequence[int] = ()
    capabilities: Sequence[str] | None = None
    handed_over: bool = True
    no_new_privileges: bool = False
    seccomp: bool = False
    read_only: bool = False
    without: Sequence[str] = field(default=())
    """Programs that nobody may run in it."""
    changes: str = ""
    processes: bool = True
    """Whether it has processes of its own. Without, this process becomes the command, and keeps its number."""

    def write(self, path: Path) -> list[str]:
        """Writes it to a file; the command that runs it, from the checkout's directory."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return [sys.executable, "-B", "-m", "tests.lab.container", str(path)]


def _read(path: str) -> Spec:
    values: dict[str, Any] = json.loads(Path(path).read_bytes())
    return Spec(**values | {"mounts": [Mount(**mount) for mount in values["mounts"]]})


def _call(function: str, *arguments: object) -> None:
    words = [argument.encode() if isinstance(argument, str) else argument for argument in arguments]
    if getattr(_libc, function)(*words) == -1:
        error = ctypes.get_errno()
        raise OSError(error, f"{function}{arguments}: {os.strerror(error)}")


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    _call("mount", source, target, kind, ctypes.c_ulong(flags), data)


def _bind(source: str, target: str, *, read_only: bool) -> None:
    _mount(source, target, None, _BIND | _REC)
    if read_only:
        _mount(source, target, None, _BIND | _REMOUNT | _RDONLY)


def overlay(root: str, changes: str) -> None:
    """Mounts a root on the directory `root` of `changes`, in such a way that what is written goes to others beside it."""
    for name in ("upper", "work", "root"):
        Path(changes, name).mkdir(exist_ok=True)
    _mount("overlay", f"{changes}/root", "overlay", 0, f"lowerdir={root},upperdir={changes}/upper,workdir={changes}/work")


def _enter_root(spec: Spec) -> None:
    _mount("none", "/", None, _REC | _PRIVATE)
    if spec.changes:
        overlay(spec.root, spec.changes)
        spec = replace(spec, root=f"{spec.changes}/root")
    _bind(spec.root, spec.root, read_only=False)
    _mount("proc", f"{spec.root}/proc", "proc", _NOSUID | _NODEV)
    _bind("/sys", f"{spec.root}/sys", read_only=True)
    _mount("tmpfs", f"{spec.root}/dev", "tmpfs", _NOSUID, "mode=755")
    for device in ("null", "zero", "full", "random", "urandom"):
        Path(spec.root, "dev", device).touch()
        _bind(f"/dev/{device}", f"{spec.root}/dev/{device}", read_only=False)
    for name, source in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        Path(spec.root, "dev", name).symlink_to(source)
    for mount in spec.mounts:
        _put(mount, Path(spec.root + mount.target))
    for program in spec.without:
        _bind("/dev/null", str(Path(spec.root + program)), read_only=True)
    if spec.read_only:
        for path in filter(os.path.exists, HIDDEN):
            _bind(path, spec.root + path, read_only=True)
        _mount("none", spec.root, None, _BIND | _REMOUNT | _RDONLY)
    os.chdir(spec.root)
    _call("pivot_root", ".", ".")
    _call("umount2", ".", 2)  # MNT_DETACH: what was the root before
    os.chdir(spec.directory)


def _put(mount: Mount, target: Path) -> None:
    """Mounts one thing; the runtime makes the place for it in the container's own layer."""
    if mount.source == "tmpfs" or Path(mount.source).is_dir():
        target.mkdir(parents=True, exist_ok=True)
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    if mount.source == "tmpfs":
        _mount("tmpfs", str(target), "tmpfs", _NOSUID | _NODEV, "mode=1777")
    else:
        _bind(mount.source, str(target), read_only=mount.read_only)


def _drop(spec: Spec) -> None:
    """Becomes the user with the capabilities, and gives up what isn't given."""
    if spec.capabilities is None:
        return
    numbers = {number for number, name in enumerate(CAPABILITIES) if name in spec.capabilities and number <= _LAST}
    for number in set(range(_LAST + 1)) - numbers:
        _call("prctl", _CAPBSET_DROP, number, 0, 0, 0)
    _call("prctl", _KEEPCAPS, 1, 0, 0, 0)
    os.setgroups(list(spec.groups))
    os.setresgid(spec.group, spec.group, spec.group)
    os.setresuid(spec.user, spec.user, spec.user)
    _call("prctl", _KEEPCAPS, 0, 0, 0, 0)
    kept = sum(1 << number for number in numbers) if spec.handed_over or spec.user == 0 else 0
    low, high = kept & 0xFFFFFFFF, kept >> 32
    _call("capset", struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", low, low, 0, high, high, 0))


def _refuse(seccomp: ctypes.CDLL) -> None:
    """The seccomp filter, written by libseccomp."""
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(0x7FFF0000)))  # allow
    for name in REFUSED:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0 and seccomp.seccomp_rule_add(context, ctypes.c_uint32(0x00050000 | 1), number, 0):  # EPERM
            raise OSError(f"seccomp can't refuse {name}")
    if seccomp.seccomp_load(context):
        raise OSError("seccomp refuses the filter")


def _become(spec: Spec) -> None:
    seccomp = ctypes.CDLL("libseccomp.so.2", use_errno=True)  # apt brings it; from here, as the container may lack it
    _enter_root(spec)
    _drop(spec)
    _call("prctl", _PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if spec.no_new_privileges:
        _call("prctl", _NO_NEW_PRIVS, 1, 0, 0, 0)
    if spec.seccomp:
        _refuse(seccomp)
    os.execvpe(spec.command[0], list(spec.command), dict(spec.env))  # noqa: S606 # a container is just that


def run(spec: Spec) -> int:
    """Runs it to its end and hands signals on; its exit status, 128 and the signal's number if one ended it."""
    if not spec.processes:
        _call("unshare", _NEWNS | _NEWIPC)
        _become(spec)
    _call("unshare", _NEWNS | _NEWIPC | _NEWPID)
    child = os.fork()
    if child == 0:
        try:
            _become(spec)
        except BaseException as error:  # noqa: BLE001 # this process must not go on as its parent's copy
            os.write(2, f"container: {error!r}\n".encode())
        finally:
            os._exit(127)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda which, _frame: os.kill(child, which))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    status = run(_read(sys.argv[1]))
    sys.exit(status if status >= 0 else 128 - status)
