"""Another version's rules and memory are there when an agent starts: U1, forth and back.

No other version is at hand in a checkout. What one would leave is made from what this one leaves: every chain and set under
another name, rules that this version doesn't write, chains and sets that nothing needs, one more jump. To the agent that
starts, an older version and a newer one look alike: rules that it doesn't know.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3

import pytest

from tests.lab.figures import Figures, sizes
from tests.reliability.rig import Rig, once_more
from tests.reliability.test_kills import dump, restored

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
TOOLS = ("iptables-legacy", "ip6tables-legacy")


def otherwise(content: dict[str, str], version: str) -> dict[str, str]:
    """Rules and sets as another version may have written them, with the same meaning."""
    sets = re.findall(r"^create (hw\S+)", content["ipset"], re.MULTILINE)
    found = {}
    for tool, text in content.items():
        chains = dict.fromkeys(re.findall(r"^:(hw\S+)", text, re.MULTILINE))
        names = {name: f"{name[:4]}{version}-{number}" for number, name in enumerate(sets)}
        names |= {name: f"hw-{version}-{number}" for number, name in enumerate(chains)}
        found[tool] = re.sub(r"(?<=[ :])hw\S+", lambda word, names=names: names.get(word[0], word[0]), text)
    for tool in TOOLS:
        # A condition that every packet meets makes each rule one that this version doesn't write.
        text = re.sub(r"^(-A hw-\S+)", r"\1 -m mark ! --mark 0x3/0x3", found[tool], flags=re.MULTILINE)
        found[tool] = text.replace("*mangle\n", f"*mangle\n{MORE.format(version=version)}").replace(
            "-A PREROUTING ", f"{MORE_RULES.format(version=version)}-A PREROUTING ", 1
        )
    found["ipset"] += f"create hw4~{version} hash:net family inet\nadd hw4~{version} 192.0.2.77\n"
    return found


# Chains that nothing uses, as an interrupted change leaves them; one more jump.
MORE = ":hw~{version}-left - [0:0]\n:hw-{version}-unused - [0:0]\n:hw-{version}-empty - [0:0]\n"
MORE_RULES = "-A hw~{version}-left -j DROP\n-A hw-{version}-unused -j hw~{version}-left\n-A INPUT -j hw-{version}-empty\n"


@sizes("rounds", short=1, full=20)
@once_more
def test_u1_rules_of_another_version(figures: Figures, rounds: int) -> None:
    """They hold until ours do, and then not one of them is left."""
    with Rig() as rig, rig.held():
        ours, content = rig.fingerprint(), dump(rig)
        for number in range(rounds):
            rig.agent.stop()
            restored(rig, otherwise(content, f"v{number}"))
            assert len(marked(rig, f"v{number}")) > len(ours["filter/v4"])
            with rig.traffic("U1", figures, 500):
                rig.agent.start()
                rig.agent.wait_applied(rig.revision)
                assert rig.fingerprint() == ours
            assert not marked(rig, f"v{number}")
            assert not rig.agent.log_lines("the kernel refused a change, what was in force stays; trying again")
    figures.tell("U1", "rules of another version taken over", rounds)
    figures.tell("U1", "of their chains and sets left", 0)


def marked(rig: Rig, version: str) -> list[str]:
    """Lines of the tools that name something of that version."""
    return [line for text in dump(rig).values() for line in text.splitlines() if re.search(rf"hw[46]?[-~]{version}-?", line)]


def test_u1_memory_of_another_version(figures: Figures) -> None:
    """It is set beside, a new one is begun, and nobody feels it."""
    with Rig() as rig, rig.held():
        ours = rig.fingerprint()
        for kept, event in ((99, "memory unreadable, starting a new one"), (1, "")):
            rig.agent.stop()
            with contextlib.closing(sqlite3.connect(rig.agent.state / "memory.db")) as memory:
                memory.execute(f"pragma user_version = {kept}")
            with rig.traffic("U1", figures, 200):
                rig.agent.start()
                rig.agent.wait_applied(rig.revision)
                assert rig.fingerprint() == ours
            assert not event or rig.agent.log_lines(event)
        assert (rig.agent.state / "memory.broken").exists()
        assert len(rig.agent.log_lines("memory unreadable, starting a new one")) == 1
