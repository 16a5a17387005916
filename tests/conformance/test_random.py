"""Random clusters and policies of Kubernetes: the packet filter made of them says what Kubernetes' own objects say, as values.

The other side, `tests/lab/kubernetes_model.py`, knows nothing of Calico and shares no code with the agent.
"""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab import kubernetes_worlds as worlds
from tests.lab.kubernetes_model import Cluster
from tests.lab.pipeline import Node


@settings(derandomize=True, max_examples=200)
@given(st.randoms(use_true_random=False), st.integers(0, 2**32))
def test_the_filter_says_what_kubernetes_says(random: Random, seed: int) -> None:
    objects = worlds.cluster(random, random.randint(1, 4))
    cluster, node = Cluster(objects), Node(objects)
    # Packets by a seed of their own: hypothesis would spend its choices on them.
    for packet in worlds.packets(Random(seed), objects, 120):
        assert node.verdict(packet) == cluster.verdict(packet), packet
