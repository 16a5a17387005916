"""The command line's benchmark runs, whatever it measures."""

import pytest
import yaml
from benchmarks import command_line

pytestmark = pytest.mark.etcd


def test_it_measures_every_step_and_its_manifests_are_distinct():
    found = command_line.measure(2, 1)
    assert len(found) == 8
    assert all(len(values) == 1 for values in found.values())
    names = [one["metadata"]["name"] for one in yaml.safe_load_all(command_line.manifests(300))]
    assert len(set(names)) == 300
