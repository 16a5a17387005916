"""A ruleset without sets that the kernel refuses: whatever looked at them fails closed, everything else stays (D4).

An Allow that needs to know whether an address is in such a set never matches; a Deny, or a Pass, denies on its other criteria.
What an untracked Allow no longer leaves untracked is judged by normal policy. Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from msgspec.structs import replace

from hostward.render.names import ALLOW
from hostward.render.ruleset import ACCEPT, DROP, Chain, InSet, IPSet, Jump, Log, Mark, Rule, Ruleset, SetMark


def own_set(name: str, sets: Mapping[str, IPSet]) -> str | None:
    """The set of a ruleset that a plan keeps under this name, None where that can't be told: its copies are `hw4~…`."""
    for candidate in (name, name.replace("~", "-", 1)):
        if candidate in sets:
            return candidate
    return None


def without_sets(ruleset: Ruleset, refused: Collection[str]) -> Ruleset:
    """The ruleset without these sets. Costs in proportion to everything: it isn't meant to happen."""
    tables = {
        where: replace(table, chains={name: _chain(chain, refused) for name, chain in table.chains.items()})
        for where, table in ruleset.tables.items()
    }
    return Ruleset(tables, {name: held for name, held in ruleset.sets.items() if name not in refused})


def _chain(chain: Chain, refused: Collection[str]) -> Chain:
    if not any(name in refused for rule in chain for name in rule.uses_sets()):
        return chain
    return tuple(_rules(chain, refused))


def _rules(chain: Chain, refused: Collection[str]) -> Iterator[Rule]:
    for at, rule in enumerate(chain):
        if not any(name in refused for name in rule.uses_sets()):
            yield rule
            continue
        others = tuple(m for m in rule.matches if not (isinstance(m, InSet) and m.name in refused))
        match rule.target:
            case SetMark(bit):  # one of several ports or names that a later rule asks for together
                if not _allows(_asking_for(bit, chain[at + 1 :])):
                    yield replace(rule, matches=others)
            case Log():
                continue
            case target if _allows(rule):
                continue
            case Jump():  # a Pass: whether the tier ends here can't be told
                yield replace(rule, matches=others, target=DROP, counter=rule.counter.replace(" pass ", " deny ", 1))
            case _:
                yield replace(rule, matches=others, target=target)


def _allows(rule: Rule | None) -> bool:
    """Whether a packet that matches a rule may pass by it. In doubt it may: then nothing is matched."""
    if rule is None or rule.target == ACCEPT:
        return True
    return isinstance(rule.target, Jump) and rule.target.chain == ALLOW


def _asking_for(bit: int, rest: Chain) -> Rule | None:
    """The rule that a block's bit is for: the next one that asks whether it is set."""
    for rule in rest:
        if any(isinstance(m, Mark) and m.value & bit for m in rule.matches):
            return rule
    return None
