"""The only module that imports python-iptables 1.2.0, with the faults that our use can meet fenced (libraries 1.3).

It compiles the options of one match or target to bytes, and lends its libraries to `libiptc`. It knows neither rules nor
tables. libxtables keeps what it parses in globals of the process and has one jump buffer, so one thread at a time is let in.

The fences, by the numbers of statements.md libraries 1.3:
1   an option error left through a Python callback, across Python's frames: it now leaves through the wrapper's C function;
2   scratch space of an extension was freed while in use: it now lives as long as the match or target;
3,4 the check that prints an extension into file descriptor 1 and parses that again is never called, only the plug-in's own;
5-7 aliases, comments and protocol names never reach it: `encode` writes headers, comments and set matches itself;
9   bytes are copied before anything else happens;
10  a target was looked up as a chain in all tables, which it opened: a rule here has no tables.
11  one static jump buffer: a mutex.
"""

from __future__ import annotations

import contextlib
import ctypes as ct
import os
import sys
import sysconfig
import threading
from collections.abc import Iterator, Sequence
from glob import glob
from typing import Any, Final

from hostward.render.ruleset import Family

_EXTENSION_DIRECTORIES: Final = (
    "/usr/lib/*/xtables",
    "/usr/lib64/xtables",
    "/usr/lib/xtables",
    "/lib/*/xtables",
    "/lib64/xtables",
)


def _name_extension_directory() -> None:
    """python-iptables otherwise runs ldconfig at import, and fails where that fails (statements.md libraries 1.1)."""
    found = next((path for pattern in _EXTENSION_DIRECTORIES for path in sorted(glob(pattern))), None)
    if found:
        os.environ.setdefault("XTABLES_LIBDIR", found)


def _find_the_wrapper_at_once() -> None:
    """Else python-iptables asks ldconfig, a compiler and a linker for a library that lies beside it."""
    os.environ.setdefault("IPTABLES_LIBDIR", sysconfig.get_path("platlib"))


@contextlib.contextmanager
def _without_distutils() -> Iterator[None]:
    """python-iptables asks distutils where packages are if it can, which loads all of setuptools: 0.3 s; else sysconfig."""
    hidden = "distutils" not in sys.modules
    if hidden:
        sys.modules["distutils"] = None  # type: ignore[assignment] # the import system's way to say that there is no such module
    try:
        yield
    finally:
        if hidden:
            del sys.modules["distutils"]


_name_extension_directory()
_find_the_wrapper_at_once()
with _without_distutils():
    import iptc
    import iptc.ip4tc
    import iptc.ip6tc
    import iptc.xtables

LIBRARY_PATHS: Final[dict[Family, str]] = {4: iptc.ip4tc._libiptc._name, 6: iptc.ip6tc._libiptc._name}
TCP: Final = 6
_mutex: Final = threading.Lock()


class OptionError(ValueError):
    """An extension is missing or refused an option."""


def _leave_through_c() -> None:
    """Fault 1. libxtables' error exit must not return; the wrapper's C function jumps back to where the wrapper called it."""
    iptc.xtables._xt_globals.exit_err = ct.cast(iptc.xtables._lib_xtwrapper.throw_exception, iptc.xtables._EXIT_FN)


class _Scratch:
    """Fault 2. Scratch space that an extension asks for is kept on the match or target that uses it."""

    _module: Any
    _scratch: Any

    def reset(self) -> None:
        """As python-iptables' reset, which sets the pointer to a local buffer; here to one that stays."""
        super().reset()  # type: ignore[misc] # mixed into classes that have it
        size = self._module.udata_size
        if size:
            self._scratch = (ct.c_ubyte * size)()
            self._module.udata = ct.cast(self._scratch, ct.c_void_p)


class _Match(_Scratch, iptc.Match):
    """A match whose scratch space lives."""


class _Target(_Scratch, iptc.Target):
    """A target whose scratch space lives."""


class _Rule4(iptc.Rule):
    """Fault 10. A rule that knows no tables, so that a target's name is never looked up as a chain."""

    tables: Any = ()


class _Rule6(iptc.Rule6):
    """Fault 10, for IPv6."""

    tables: Any = ()


_leave_through_c()


@contextlib.contextmanager
def _as_option_error(what: str) -> Iterator[None]:
    """One kind of error for everything that python-iptables raises about options (statements.md libraries 1.4)."""
    try:
        yield
    except (iptc.xtables.XTablesError, iptc.IPTCError, ValueError, AttributeError, TypeError) as error:
        raise OptionError(f"{what}: {error}") from error


Option = tuple[str, tuple[str, ...], bool]


def compile_match(family: Family, name: str, options: Sequence[Option]) -> bytes:
    """A match's bytes, header included. An option is (name without dashes, arguments, negated). Raises OptionError."""
    return _compile(_Match, family, name, options)


def compile_target(family: Family, name: str, options: Sequence[Option]) -> bytes:
    """A target's bytes, header included; not for verdicts and jumps. Raises OptionError."""
    return _compile(_Target, family, name, options)


def _compile(kind: type[_Match] | type[_Target], family: Family, name: str, options: Sequence[Option]) -> bytes:
    with _mutex, _as_option_error(f"{name} for IPv{family}"):
        rule = _Rule4() if family == 4 else _Rule6()
        rule.get_ip().proto = TCP  # port matches ask for a protocol that has ports, and don't keep which
        extension = kind(rule, name)
        for option, arguments, negated in options:
            words = [option.encode(), *(argument.encode() for argument in arguments)]
            if any(b"\0" in word for word in words):
                raise OptionError(f"{name}: NUL in {words!r}")
            argv = (ct.c_char_p * len(words))(*words)
            extension._parse(argv, ct.c_int(negated), ct.pointer(rule.entry))
        extension._final_check()
        return ct.string_at(extension._ptr, extension.size)
