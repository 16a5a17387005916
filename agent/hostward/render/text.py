"""Rules as iptables words: for `iptables-restore`, for people, and as the source that rules are compiled from.

Pure functions; any thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from hostward.render.ruleset import (
    Chain,
    ConnectionMark,
    Family,
    IcmpType,
    InSet,
    Interface,
    Jump,
    Limit,
    Log,
    Mark,
    Match,
    Net,
    NoTrack,
    PortSet,
    Protocol,
    Reject,
    ReversePath,
    Rule,
    SetMark,
    State,
    Target,
    Verdict,
)

_PLAIN = re.compile(r"[^\x00-\x20\"'\\#;\x7f]+\Z").match


def match_words(match: Match, family: Family) -> tuple[str, ...]:
    """The iptables arguments of one match, as separate words."""
    bang = ("!",) if getattr(match, "negate", False) else ()
    match match:
        case Interface(direction, name, prefix):
            return ("-i" if direction == "in" else "-o", name + ("+" if prefix else ""))
        case Protocol(number):
            return (*bang, "-p", str(number))
        case Net(side, net):
            return (*bang, "-s" if side == "src" else "-d", net)
        case PortSet(side, ranges):
            ports = ",".join(str(a) if a == b else f"{a}:{b}" for a, b in ranges)
            return ("-m", "multiport", *bang, "--source-ports" if side == "src" else "--destination-ports", ports)
        case IcmpType(type_, code):
            kind = str(type_) if code is None else f"{type_}/{code}"
            if family == 4:
                return ("-m", "icmp", *bang, "--icmp-type", kind)
            return ("-m", "icmp6", *bang, "--icmpv6-type", kind)
        case State(states):
            return ("-m", "conntrack", *bang, "--ctstate", ",".join(states))
        case Mark(value, mask):
            return ("-m", "mark", *bang, "--mark", f"{value:#x}/{mask:#x}")
        case ConnectionMark(value, mask):
            return ("-m", "connmark", "--mark", f"{value:#x}/{mask:#x}")
        case InSet(name, dimensions):
            return ("-m", "set", *bang, "--match-set", name, ",".join(dimensions))
        case Limit(rate, burst):
            return ("-m", "limit", "--limit", rate, *(("--limit-burst", str(burst)) if burst else ()))
        case ReversePath():
            # validmark: routes that depend on somebody's packet mark are asked for with that mark.
            return ("-m", "rpfilter", "--invert", "--validmark")


def target_words(target: Target, family: Family) -> tuple[str, ...]:
    """The iptables arguments of a target, as separate words."""
    match target:
        case Verdict(word):
            return ("-j", word)
        case Jump(chain, goto):
            return ("-g" if goto else "-j", chain)
        case SetMark(value, mask):
            return ("-j", "MARK", "--set-xmark", f"{value:#x}/{mask:#x}")
        case NoTrack():
            return ("-j", "CT", "--notrack")
        case Reject():
            return ("-j", "REJECT", "--reject-with", "icmp-port-unreachable" if family == 4 else "icmp6-port-unreachable")
        case Log(prefix):
            return ("-j", "LOG", "--log-prefix", prefix, "--log-level", "5")


def rule_words(rule: Rule, family: Family) -> tuple[str, ...]:
    """All iptables arguments of a rule, without the chain, as separate words."""
    words: list[str] = []
    for match in rule.matches:
        words += match_words(match, family)
    if rule.comment:
        words += ("-m", "comment", "--comment", rule.comment)
    return (*words, *target_words(rule.target, family))


def quoted(word: str) -> str:
    """A word as `iptables-restore` reads it back unchanged. Control characters can't be carried and are refused."""
    if _PLAIN(word):
        return word
    if any(ord(c) < 32 or ord(c) == 127 for c in word):
        raise ValueError(f"control character in {word!r}")
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def rule_text(rule: Rule, family: Family) -> str:
    """A rule as one line of iptables arguments, quoted for `iptables-restore`."""
    return " ".join(quoted(word) for word in rule_words(rule, family))


def chains_text(chains: Mapping[str, Chain], family: Family) -> Iterable[str]:
    """Chains as people read them: one `-A chain …` line a rule."""
    for name in sorted(chains):
        yield f":{name}"
        for rule in chains[name]:
            yield f"-A {name} {rule_text(rule, family)}"
