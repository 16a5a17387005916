"""What comes and goes is forgotten: memory doesn't grow with the number of changes."""

from __future__ import annotations

import pytest

from hostward.dataplane.fake import FakeKernel
from tests.unit.engines import CLOSED, Agent, policy
from tests.unit.held import caches, entries

LARGEST = 16384
OTHERS = {
    "dataplane.fake.FakeKernel._learnt",  # the kernel of tests: it knows what it was ever told
    "report.quantiles.Quantiles._samples",  # the last thousand
}


@pytest.fixture
def agent(tmp_path):
    agent = Agent(tmp_path, FakeKernel())
    yield agent
    agent.end()


def come_and_go(agent, turn):
    """Policies, a set of networks, a pod's labels and an endpoint of names and values that were never there before."""
    new = {}
    for number in range(turn * 10, turn * 10 + 10):
        source, destination = {"selector": f"team == 't{number}'"}, {"ports": [number]}
        rule = {"action": "Deny", "protocol": "TCP", "source": source, "destination": destination}
        new[f"globalnetworkpolicies__p{number}"] = policy("Allow", 1000 + number, ingress=[rule], order=number)
        new[f"globalnetworksets__s{number}"] = {
            "metadata": {"labels": {"team": f"t{number}"}},
            "spec": {"nets": [f"172.16.{turn}.{number % 250}/32"]},
        }
        new[f"profiles__r{number}"] = {"spec": {"ingress": [rule]}}
    new[f"hostendpoints__h{turn}"] = {
        "metadata": {"labels": {"role": "worker"}},
        "spec": {"node": "w1", "interfaceName": f"eth{turn}", "profiles": [f"r{turn * 10}"]},
    }
    agent.put(**new)
    agent.put(**dict.fromkeys(new))


def test_policies_that_come_and_go_leave_nothing_behind(agent):
    agent.snapshot({**CLOSED, "globalnetworkpolicies/stays": policy()})
    for turn in range(1, 4):
        come_and_go(agent, turn)
    before = entries()
    for turn in range(4, 14):
        come_and_go(agent, turn)
    grown = entries() - before
    assert not grown.keys() - OTHERS, grown
    assert agent.lets_in(80), "the policy that stays"


def test_what_is_kept_of_what_was_asked_is_bounded():
    sizes = {name: cache.cache_info().maxsize for name, cache in caches().items()}
    assert len(sizes) > 20, "the modules of an engine are loaded"
    assert not {name for name, most in sizes.items() if most is None or most > LARGEST}
