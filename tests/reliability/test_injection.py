"""Names and texts that would be commands if anybody took them for such: Q4.

Whoever may write policies chooses names, labels, annotations, prefixes; the kernel's names of interfaces are any bytes. All of
it ends in rules, in sets and, for large writes, in text for iptables-restore.
"""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from hostward.dataplane.xtables import commit, tables
from hostward.model.decode import decode
from hostward.model.keys import ResourceKey
from hostward.model.links import Link
from hostward.model.resources import Resource
from hostward.model.settings import BUILT_IN
from tests.lab import saved
from tests.lab.figures import Figures, sizes
from tests.lab.host import Document, HostUnderTest, document
from tests.lab.netns import Namespace

pytestmark = pytest.mark.kernel
SEED = 20261128
SETTINGS = replace(BUILT_IN, log_prefix="%t %k %n %p")
PACK = 30  # policies in force at once
HOSTILE = (
    "\nCOMMIT\n", "\n-A INPUT -j ACCEPT\n", " -j ACCEPT", "\n*filter\n:INPUT ACCEPT [0:0]\n", "\n-F\n-X\n", '" -j ACCEPT "',
    "' -j ACCEPT '", "\\", '\\" -j ACCEPT', "#", ";", "$(reboot)", "`id`", "| cat", "%n%p%t%k%s%d", "%", "\r", "\0", "\x1b[2J",
    "--match-set x src", "! -s 0.0.0.0/0", "\ndestroy\n", "\nflush\n", "\nadd hw4-x 0.0.0.0/1\n", "\ncreate x hash:net\nquit\n",
    "hw-INPUT", "hw-allow", "hw~", "hw4-", "-", "--", "..", "/", "../../etc", "é", "\u202e", "\ud800", "🔥", "a" * 300, " ",
    "\t", "",
)  # fmt: skip
INTERFACES = ("x -j ACCEPT", "x\"'\\", "x;#", "-j", "x+", "!", "$(id)", "é")


def hostile(rng: random.Random) -> str:
    """One or more of these, and something that tells it from others."""
    parts = [rng.choice(HOSTILE) for _ in range(rng.randrange(1, 4))]
    parts.insert(rng.randrange(len(parts) + 1), f"n{rng.randrange(10**9)}")
    return "".join(parts)


def guarding(rng: random.Random) -> list[Document]:
    """Policies, sets, tiers, profiles and endpoints, with hostile texts wherever a writer chooses them."""
    tiers = [hostile(rng) for _ in range(3)]
    found = [document("Tier", name, order=number, defaultAction="Pass") for number, name in enumerate(tiers)]
    profiles = [hostile(rng) for _ in range(2)]
    found += [document("Profile", name, ingress=[{"action": "Allow", "protocol": "TCP"}]) for name in profiles]
    for number in range(1, 5):  # these find their interfaces, of hostile names, by address
        spec = {"node": "worker", "expectedIPs": [f"192.0.2.{number}"], "profiles": profiles}
        found.append(document("HostEndpoint", hostile(rng), labels={"role": "worker"}, **spec))
    for number in range(PACK):
        value = hostile(rng)
        nets = [f"10.0.{number}.0/24", f"fd00:{number:x}::/48"]
        found.append(document("GlobalNetworkSet", hostile(rng), labels={"who": value}, nets=nets))
        quoted = f"'{value}'" if "'" not in value else f'"{value}"'
        rule = {
            "action": rng.choice(("Allow", "Deny", "Log", "Pass")),
            "protocol": "TCP",
            "source": {"selector": f"who == {quoted}" if '"' not in value or "'" not in value else "has(who)"},
            "destination": {"ports": [number + 1]},
            "metadata": {"annotations": {hostile(rng): hostile(rng) for _ in range(rng.randrange(3))}},
        }
        rules = [rule | {"destination": {"ports": [port]}} for port in range(number + 1, number + 1 + rng.choice((1, 4)))]
        tier = rng.choice([*tiers, "default"])
        spec = {"selector": "role == 'worker'", "order": number, "tier": tier, "types": ["Ingress", "Egress"]}
        found.append(document("GlobalNetworkPolicy", f"{tier}.{hostile(rng)}", ingress=rules, egress=rules, **spec))
    return found


@pytest.fixture(params=["libiptc", "iptables-restore"])
def host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostUnderTest]:
    """A namespace's packet filter, written to by either way."""
    if request.param == "iptables-restore":
        monkeypatch.setattr(tables, "commit", functools.partial(commit.commit, bulk_rules=0))
    namespace = Namespace("hostile")
    with HostUnderTest(namespace) as host:
        yield host
    namespace.close()


@sizes("packs", short=3, full=300)
def test_q4_injection(host: HostUnderTest, figures: Figures, packs: int) -> None:
    """What is in the kernel is rule for rule and member for member what was meant, and nothing beside it."""
    rng = random.Random(SEED)
    names = rules = 0
    for _ in range(packs):
        host.resources = understood(guarding(rng))
        host.links = {
            name: Link(name, number, True, frozenset({f"192.0.2.{number}"}))
            for number, name in enumerate(rng.sample(usable(host), 4), 1)
        }
        host.apply(SETTINGS)
        again = host.apply(SETTINGS)
        assert (again.commits, again.set_steps) == (0, 0), "what is in the kernel isn't what was meant"
        rules += compare(host)
        names += len(host.resources)
    assert rules > packs * PACK
    figures.tell("Q4", "objects with hostile names", names, how="sum")
    figures.tell("Q4", "rules read back", rules, how="sum")
    figures.tell("Q4", "rules or members that nobody meant", 0, how="sum")


def understood(documents: list[Document]) -> dict[ResourceKey, Resource]:
    """What the agent makes of them; some names can't be, and their objects are set aside."""
    found = {}
    for item in documents:
        key = ResourceKey(item["kind"], "", item["metadata"]["name"])
        value = decode(key, json.dumps(item).encode()).value
        if value is not None:
            found[key] = value
    assert len(found) > PACK
    return found


def usable(host: HostUnderTest) -> list[str]:
    """Names of interfaces that iptables-restore can be told of, where that writes."""
    return [name for name in INTERFACES if tables.commit is commit.commit or not name.endswith("+")]


def compare(host: HostUnderTest) -> int:
    """Holds the kernel to the ruleset: by our own reading of its bytes, and by what the system's tools print; the rules."""
    count = 0
    printed = saved.rules(host.namespace)
    for table, meant in host.ruleset.tables.items():
        with host.namespace.entered():
            held = host.kernel.read_table(table)
        assert held.chains == meant.chains
        lines = printed[f"{table.name}/v{table.family}"]
        assert {line.split()[0][1:] for line in lines if line.startswith(":hw")} == meant.chains.keys()
        ours = [line for line in lines if line.startswith("-A hw")]
        hooks = [line for line in lines if line.startswith("-A ") and not line.startswith("-A hw")]
        assert len(ours) == sum(map(len, meant.chains.values()))
        assert len(hooks) == sum(len(hook.first) + len(hook.last) for hook in meant.hooks.values())
        assert all(re.search(r" -j (hw-[A-Z]+|hw-wl-raw|ACCEPT)$", line) for line in hooks), hooks
        count += len(ours)
    lines = saved.sets(host.namespace)
    assert {line.split()[1] for line in lines if line.startswith("create ")} == host.ruleset.sets.keys()
    added = [tuple(line.split()[1:3]) for line in lines if line.startswith("add ")]
    assert sorted(added) == sorted((name, member) for name, held in host.ruleset.sets.items() for member in held.members)
    assert len(lines) == len(host.ruleset.sets) + len(added)
    return count
