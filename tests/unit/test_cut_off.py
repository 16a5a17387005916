"""Workload interfaces without an endpoint: which they are, and that each is warned of once, and not while it is only new."""

from hostward.engine.cut_off import PATIENCE, CutOff
from hostward.model.resolved import Scope

SCOPE = Scope("w1", ("cali", "tap"))


def test_which_interfaces_are_cut_off() -> None:
    found = CutOff()
    found.follow(["lo", "eth0", "tap1", "cali2", "cali1", "xcali"], SCOPE, {"cali1": 1, "cali9": 1}, 0)
    assert found.names == ("cali2", "tap1")
    found.follow(["cali2"], Scope("w1", ("veth",)), {}, 0)
    assert found.names == ()


def test_a_new_pod_is_given_time_and_each_interface_is_warned_of_once() -> None:
    found = CutOff()
    links = ["cali1", "cali2"]
    assert found.follow(links, SCOPE, {}, 100) == []
    assert found.follow([*links, "cali3"], SCOPE, {}, 100 + PATIENCE / 2) == []
    assert found.follow([*links, "cali3"], SCOPE, {"cali2"}, 100 + PATIENCE) == ["cali1"]
    assert found.follow([*links, "cali3"], SCOPE, {"cali2"}, 100 + PATIENCE) == []
    assert found.follow([*links, "cali3"], SCOPE, {"cali2"}, 100 + PATIENCE * 2) == ["cali3"]


def test_one_that_comes_back_is_given_time_and_warned_of_anew() -> None:
    found = CutOff()
    found.follow(["cali1"], SCOPE, {}, 0)
    assert found.follow(["cali1"], SCOPE, {}, PATIENCE) == ["cali1"]
    assert found.follow(["cali1"], SCOPE, {"cali1"}, PATIENCE) == []
    assert found.follow(["cali1"], SCOPE, {}, PATIENCE) == []
    assert found.follow(["cali1"], SCOPE, {}, 2 * PATIENCE) == ["cali1"]
    assert found.follow([], SCOPE, {}, 2 * PATIENCE) == []
    assert found.names == ()
