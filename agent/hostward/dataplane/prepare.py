"""What root does once so that an agent that isn't root can do its work: kernel modules, the xtables lock, the state directory.

Everything is done anew each time and changes nothing that is right already. The command's own thread.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

MODULES: Final = (
    *("ip_tables", "ip6_tables", "iptable_raw", "iptable_mangle", "iptable_filter"),
    *("ip6table_raw", "ip6table_mangle", "ip6table_filter"),
    *("ip_set", "ip_set_hash_net", "ip_set_hash_ipport", "xt_set", "xt_multiport", "xt_comment", "xt_conntrack", "xt_mark"),
    *("xt_limit", "xt_CT", "xt_LOG", "nf_log_syslog", "ipt_REJECT", "ip6t_REJECT", "ipt_rpfilter", "ip6t_rpfilter"),
    "nf_conntrack_netlink",
)
"""What the rules and the agent use. Kernels have some of them built in."""

_LOCK_MODE: Final = 0o660
_MODPROBE_SECONDS: Final = 30
_MAY_BE_THERE: Final = "they may be loaded or built in already: `hostward doctor` names those that are missing"


class PrepareError(Exception):
    """Something that the agent can't do without could not be prepared; the text is for the operator."""


class Account(NamedTuple):
    """Who the agent runs as."""

    uid: int
    gid: int


def account(text: str) -> Account:
    """An account by name, by number, or as UID:GID. Raises PrepareError."""
    user, _, group = text.partition(":")
    try:
        if user.isdecimal():
            uid = int(user)
            gid = uid
            with suppress(KeyError):  # a container may run as a number that has no name
                gid = pwd.getpwuid(uid).pw_gid
        else:
            found = pwd.getpwnam(user)
            uid, gid = found.pw_uid, found.pw_gid
        if group:
            gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise PrepareError(
            f"there is no account {text!r} on this host: `systemd-sysusers hostward.conf` makes the one that the agent runs as"
        ) from None
    return Account(uid, gid)


def load_modules() -> str:
    """Loads kernel modules; what was wrong, "" for nothing. Those that are missing may be built in, or never be needed."""
    try:
        done = subprocess.run(
            ["modprobe", "-a", "-q", *MODULES],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_MODPROBE_SECONDS, check=False,
        )  # fmt: skip # one thought
    except FileNotFoundError:
        return f"no kernel modules were loaded, as there is no modprobe here (package kmod); {_MAY_BE_THERE}"
    except OSError as error:
        return f"no kernel modules were loaded, as modprobe can't be run: {error.strerror}; {_MAY_BE_THERE}"
    except subprocess.TimeoutExpired:
        return f"kernel modules may be missing, as modprobe didn't end within {_MODPROBE_SECONDS} s; {_MAY_BE_THERE}"
    return done.stderr.strip().replace("\n", "; ")


def share_lock(path: Path, gid: int) -> None:
    """Makes the xtables lock if it is missing and lets a group take it, and nobody else but root. Raises PrepareError.

    The file stays the one that it is: other programs may hold it just now.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _no_file(path)
            os.fchown(descriptor, -1, gid)
            os.fchmod(descriptor, _LOCK_MODE)
        finally:
            os.close(descriptor)
    except IsADirectoryError:
        raise _no_file(path) from None
    except OSError as error:
        raise PrepareError(f"cannot prepare the xtables lock {path}: {error.strerror}") from error


def _no_file(path: Path) -> PrepareError:
    return PrepareError(
        f"the xtables lock {path} is no file, so nobody's iptables works: remove it, and look for a container that mounts it "
        "without `type: FileOrCreate`"
    )


def give_state(directory: Path, owner: Account) -> None:
    """Makes the state directory, and gives it and what is in it to an account. Raises PrepareError.

    The account may write there meanwhile: no link is followed, and a file with a second name elsewhere isn't given away.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for _, _, files, at in os.fwalk(directory):
            os.fchown(at, *owner)
            for name in files:
                if os.lstat(name, dir_fd=at).st_nlink == 1:
                    os.chown(name, *owner, dir_fd=at, follow_symlinks=False)
    except OSError as error:
        raise PrepareError(f"cannot prepare the state directory {directory}: {error.strerror}") from error
