"""The faults of python-iptables 1.2.0 that would end or maim the agent (libraries 1.3), tried in processes of their own.

Each fence is also taken away once: then the self-test must see it, or it would guard nothing.
"""

from __future__ import annotations

import os
import sys

import pytest

from hostward.dataplane.kernel import KernelError
from hostward.dataplane.xtables import compat
from hostward.dataplane.xtables.encode import Encoder
from hostward.dataplane.xtables.selftest import SelfTest
from hostward.render.ruleset import (
    ConnectionMark,
    IcmpType,
    Limit,
    Log,
    Mark,
    NoTrack,
    PortSet,
    Protocol,
    Reject,
    Rule,
    SetMark,
    State,
)

pytestmark = pytest.mark.kernel

WITHOUT_ERROR_EXIT = """
import iptc.xtables as x
x._xt_globals.exit_err = x._xt_exit
"""
WITHOUT_SCRATCH = """
compat._Scratch.reset = lambda self: super(compat._Scratch, self).reset()
"""


def child(fault):
    code = f"from hostward.dataplane.xtables import compat, selftest\n{fault}\nselftest.main()"
    return (sys.executable, "-c", code)


def test_the_fences_hold():
    SelfTest().result()
    SelfTest(child("")).result()


@pytest.mark.parametrize("fault", [WITHOUT_ERROR_EXIT, WITHOUT_SCRATCH], ids=["error exit", "scratch"])
def test_the_self_test_sees_a_missing_fence(fault):
    with pytest.raises(KernelError, match="self-test of the iptables libraries failed"):
        SelfTest(child(fault)).result()


def test_the_self_test_says_what_is_missing():
    with pytest.raises(KernelError, match="No module named 'iptcx'") as failed:
        SelfTest((sys.executable, "-c", "import iptcx")).result()
    assert "XTABLES_LIBDIR" in failed.value.do
    with pytest.raises(KernelError, match="did not run"):
        SelfTest(("/nonexistent",)).result()
    with pytest.raises(KernelError, match="SIGKILL"):
        SelfTest((sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")).result()


def every_part(family):
    yield from (PortSet("dst", ((1, 2),)), State(("NEW",)), Mark(1, 1), ConnectionMark(1, 1), Limit("1/second", 5), IcmpType(8))
    yield from (SetMark(1, 1), NoTrack(), Reject(), Log("x"))


@pytest.mark.parametrize("family", [4, 6])
def test_file_descriptor_1_is_never_touched(family, monkeypatch):
    """Faults 3 and 4: the check before an append prints into a pipe put over descriptor 1."""
    touched = []
    monkeypatch.setattr(os, "dup2", lambda *arguments: touched.append(arguments))
    monkeypatch.setattr(os, "pipe", lambda: touched.append("pipe"))
    encoder = Encoder(family)
    for part in every_part(family):
        is_target = isinstance(part, SetMark | NoTrack | Reject | Log)
        encoder.encode(Rule((), part) if is_target else Rule((Protocol(6), part), Log("x")))
    assert touched == []


def test_parts_are_copies():
    """Fault 9: the memory behind a part belongs to a library and is used for the next one."""
    first = compat.compile_target(4, "LOG", [("log-prefix", ("first",), False)])
    copy = bytes(bytearray(first))
    for number in range(200):
        compat.compile_target(4, "LOG", [("log-prefix", (f"other-{number}",), False)])
    assert first == copy
    assert b"first" in first


def test_no_tracking_is_really_written():
    """Fault 5: through its alias the target would do nothing."""
    entry = Encoder(4).encode(Rule((), NoTrack())).entry
    assert b"CT\0" in entry
    assert entry[112 + 32] & 1


@pytest.mark.parametrize("value", ["!", "!x", "--log-level", "it's", 'a "b"'])
def test_text_is_taken_as_it_is(value):
    """Fault 6: an exclamation mark counted as inversion, quotes gained backslashes."""
    assert value.encode() + b"\0" in compat.compile_target(4, "LOG", [("log-prefix", (value,), False)])
    comment = Encoder(4)
    with pytest.raises(ValueError, match="comment"):
        comment.encode(Rule((), Log("x"), value if value != "--log-level" else "a b"))


def test_options_that_extensions_refuse_are_one_kind_of_error():
    bad = [
        ("multiport", [("destination-ports", ("1,x",), False)]),
        ("multiport", [("no-such-option", ("1",), False)]),
        ("multiport", []),
        ("nosuchmatch", []),
        ("conntrack", [("ctstate", ("NONE-SUCH",), False)]),
        ("limit", [("limit", ("0/second",), False)]),
        ("mark", [("mark", ("x",), False)]),
    ]
    for name, options in bad:
        with pytest.raises(compat.OptionError):
            compat.compile_match(4, name, options)
    with pytest.raises(compat.OptionError):
        compat.compile_target(4, "NOSUCH", [])
