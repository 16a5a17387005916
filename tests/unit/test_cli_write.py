"""Writing and finding resources: compare-and-swap, historical and v1 names, what nobody may write."""

import json

import pytest

from hostward.cli import lookup, write
from hostward.cli.delete import delete_all
from hostward.cli.manifests import Manifest
from hostward.cli.targets import Target, by_name, resolve
from hostward.convert import v1
from hostward.datastore.store import ConflictError, NotFoundError, StoreError
from hostward.model.keys import ResourceKey
from tests.lab.memory_store import MemoryStore

GNP = "GlobalNetworkPolicy"
NAME_NOTE = "projectcalico.org/metadata"


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr(write, "_PAUSE", 0)


def manifest(kind=GNP, name="foo", namespace="", spec=None, v1_name="", **metadata):
    meta = {"name": name} | ({"namespace": namespace} if namespace else {}) | metadata
    document = {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": meta, "spec": spec or {}}
    return Manifest(ResourceKey(kind, namespace, name), document, "x.yaml:1", v1_name, "")


def apply(store, one, said=None):
    write.apply(store, one, said.append if said is not None else pytest.fail)


def test_create_then_update_keeps_identity_and_replaces_labels(store):
    apply(
        store,
        manifest(labels={"a": "1"}, annotations={"x": "y"}, spec={"order": 1.0}, uid="forged", creationTimestamp="forged"),
    )
    (key,) = store.objects
    first = store.get(key)
    assert first.document["metadata"]["uid"] == "uid-1"
    assert first.document["metadata"]["creationTimestamp"] == "2026-01-02T03:04:05Z"
    assert first.document["metadata"]["labels"] == {"a": "1", "projectcalico.org/tier": "default"}
    assert json.loads(first.document["metadata"]["annotations"][NAME_NOTE]) == {"name": "foo"}
    assert first.document["spec"] == {"order": 1, "types": ["Ingress"], "tier": "default"}
    assert isinstance(first.document["spec"]["order"], int)
    apply(store, manifest(labels={"b": "2"}, spec={"egress": [{"action": "Allow"}]}))
    second = store.get(key)
    assert second.document["metadata"] == {
        "name": "foo",
        "uid": "uid-1",
        "creationTimestamp": "2026-01-02T03:04:05Z",
        "labels": {"b": "2", "projectcalico.org/tier": "default"},
        "annotations": {NAME_NOTE: '{"name":"foo"}'},
    }
    assert second.document["spec"] == {"egress": [{"action": "Allow"}], "types": ["Egress"], "tier": "default"}


def test_status_of_others_stays(store):
    key = ResourceKey("Node", "", "w1")
    store.put(
        key, {"metadata": {"name": "w1", "uid": "u", "creationTimestamp": "t"}, "spec": {}, "status": {"podCIDRs": ["x"]}}
    )
    apply(store, manifest("Node", "w1"))
    assert store.get(key).document["status"] == {"podCIDRs": ["x"]}


@pytest.mark.parametrize(
    ("stored", "note"),
    [
        ("default.foo", None),  # to v3.29
        ("default.foo", '{"name":"foo"}'),  # v3.30 and 3.31
        ("foo", '{"name":"foo"}'),  # since v3.32
    ],
)
def test_policies_are_found_however_they_were_stored(store, stored, note):
    key = ResourceKey(GNP, "", stored)
    notes = {"annotations": {NAME_NOTE: note}} if note else {}
    store.put(key, {"metadata": {"name": stored, "uid": "u"} | notes, "spec": {"order": 1}})
    assert lookup.find(store, GNP, "", "foo").key == key
    assert lookup.real_name(store.get(key)) == "foo"
    apply(store, manifest(spec={"order": 2}))
    assert set(store.objects) == {key}
    document = store.get(key).document
    assert document["metadata"]["name"] == stored
    assert document["spec"]["order"] == 2
    assert lookup.real_name(store.get(key)) == "foo"
    write.delete(store, lookup.find(store, GNP, "", "foo"))
    assert store.objects == {}


def test_another_policy_behind_the_historical_name_is_left_alone(store):
    key = ResourceKey(GNP, "", "default.foo")
    store.put(key, {"metadata": {"name": "default.foo", "annotations": {NAME_NOTE: '{"name":"default.foo"}'}}, "spec": {}})
    with pytest.raises(NotFoundError):
        lookup.find(store, GNP, "", "foo")
    apply(store, manifest())
    assert len(store.objects) == 2


def test_a_lost_race_is_repeated_and_told(store):
    apply(store, manifest(spec={"order": 1}))
    (key,) = store.objects
    other = store.get(key).document | {"spec": {"order": 7}}
    store.before_write = lambda: store.put(key, other)
    said = []
    apply(store, manifest(spec={"order": 2}), said)
    assert store.get(key).document["spec"]["order"] == 2
    assert said == [f"{key} was changed by somebody else at the same time; trying again (2 of 5)"]


def test_a_race_to_create_becomes_an_update_and_one_to_delete_a_creation(store):
    key = ResourceKey(GNP, "", "foo")
    store.before_write = lambda: store.put(key, {"metadata": {"name": "foo", "uid": "theirs"}, "spec": {}})
    apply(store, manifest(spec={"order": 2}), [])
    assert store.get(key).document["metadata"]["uid"] == "theirs"
    store.before_write = lambda: store.objects.pop(key)
    apply(store, manifest(spec={"order": 3}), [])
    assert store.get(key).document["spec"]["order"] == 3


def test_a_race_that_is_always_lost_ends(store):
    apply(store, manifest())
    (key,) = store.objects

    def race():
        store.put(key, store.get(key).document)
        store.before_write = race

    store.before_write = race
    said = []
    with pytest.raises(ConflictError):
        apply(store, manifest(), said)
    assert len(said) == write.TRIES - 1


def test_a_given_revision_is_demanded(store):
    apply(store, manifest())
    (key,) = store.objects
    revision = store.get(key).revision
    apply(store, manifest(resourceVersion=str(revision)))
    with pytest.raises(ConflictError, match=rf"made from revision {revision}, and the stored one is {revision + 1}"):
        apply(store, manifest(resourceVersion=str(revision)))
    with pytest.raises(ConflictError):
        write.delete(store, store.get(key), str(revision))


def test_a_policy_needs_its_tier(store):
    with pytest.raises(NotFoundError, match=r"resource does not exist: Tier\(mine\) with error: <nil>"):
        apply(store, manifest(spec={"tier": "mine"}))
    apply(store, manifest("Tier", "mine", spec={"order": 5}))
    apply(store, manifest(spec={"tier": "mine"}))
    with pytest.raises(write.NotSupportedError, match=r"Tier\(mine\): the tier is not empty: GlobalNetworkPolicy\(foo\)"):
        write.delete(store, lookup.find(store, "Tier", "", "mine"))
    write.delete(store, lookup.find(store, GNP, "", "foo"))
    write.delete(store, lookup.find(store, "Tier", "", "mine"))


@pytest.mark.parametrize(
    "key",
    [
        ResourceKey("Profile", "", "projectcalico-default-allow"),
        ResourceKey("ClusterInformation", "", "default"),
        ResourceKey("NetworkPolicy", "shop", "knp.default.web"),
    ],
)
def test_what_nobody_may_write(store, key):
    for operation in ("apply", "delete"):
        with pytest.raises(write.NotSupportedError, match=f"operation {operation} is not supported on "):
            write.check_writable(operation, key)
    assert delete_all(store, [Target((key.kind,), key.namespace, key.name)], False).errors


def test_what_always_exists_is_shown_and_stays(store):
    assert lookup.find(store, "Profile", "", "projectcalico-default-allow").revision == 1
    assert [one.key.name for one in lookup.everything(store, "Tier")[1]] == ["default", "kube-admin", "kube-baseline"]
    apply(store, manifest("Tier", "default"))
    assert [one.key.name for one in lookup.everything(store, "Tier")[1]] == ["default", "kube-admin", "kube-baseline"]
    assert lookup.find(store, "Tier", "", "default").document["spec"] == {"order": 1000000, "defaultAction": "Deny"}
    with pytest.raises(write.NotSupportedError, match="built in"):
        write.delete(store, lookup.find(store, "Tier", "", "default"))


def test_v1_names_are_found_again(store):
    for kind, meta in (
        ("policy", {"name": "Block_NodePorts"}),
        ("profile", {"name": "k8s_ns.Shop"}),
        ("hostEndpoint", {"name": "w1_worker_public", "node": "W1"}),
        ("node", {"name": "W1"}),
        ("ipPool", {"cidr": "10.0.0.0/16"}),
    ):
        spec = {"interfaceName": "eth0"} if kind == "hostEndpoint" else {}
        document, old = v1.to_v3({"apiVersion": "v1", "kind": kind, "metadata": meta, "spec": spec})
        key = ResourceKey(document["kind"], "", document["metadata"]["name"])
        apply(store, Manifest(key, document, "", old, kind))
        assert lookup.find(store, key.kind, "", old).key == key
        assert lookup.find(store, key.kind, "", key.name).key == key
    # a v3 policy that happens to have the converted name isn't the v1 one
    store.put(ResourceKey(GNP, "", "block-nodeports-6df207f1"), {"metadata": {"name": "block-nodeports-6df207f1"}, "spec": {}})
    with pytest.raises(NotFoundError):
        lookup.find(store, GNP, "", "Block_NodePorts")


def test_a_v1_host_endpoint_name_on_two_nodes_is_ambiguous(store):
    for node in ("a", "b"):
        meta = {"name": "eth_0", "node": node}
        document, old = v1.to_v3({"apiVersion": "v1", "kind": "hostEndpoint", "metadata": meta, "spec": {"interfaceName": "e"}})
        key = ResourceKey("HostEndpoint", "", document["metadata"]["name"])
        apply(store, Manifest(key, document, "", old, "hostEndpoint"))
    with pytest.raises(lookup.AmbiguousError, match="v1 name of 2 host endpoints"):
        lookup.find(store, "HostEndpoint", "", "eth_0")


def test_v1_workload_endpoints_are_found_in_their_namespace(store):
    for namespace, pod in (("shop", "web-0"), ("shop", "web-1"), ("other", "web-0")):
        meta = {
            "name": "eth0" if pod == "web-0" else "eth1",
            "node": "w1",
            "orchestrator": "k8s",
            "workload": f"{namespace}.{pod}",
        }
        converted = {"apiVersion": "v1", "kind": "workloadEndpoint", "metadata": meta, "spec": {"interfaceName": "cali1"}}
        document, old = v1.to_v3(converted)
        key = ResourceKey("WorkloadEndpoint", document["metadata"]["namespace"], document["metadata"]["name"])
        apply(store, Manifest(key, document, "", old, "workloadEndpoint"))
    assert lookup.find(store, "WorkloadEndpoint", "shop", "eth1").key.name == "w1-k8s-web--1-eth1"
    assert lookup.find(store, "WorkloadEndpoint", "other", "eth0").key.name == "w1-k8s-web--0-eth0"
    with pytest.raises(NotFoundError):
        lookup.find(store, "WorkloadEndpoint", "other", "eth1")


def test_the_word_policy_means_the_one_that_exists(store):
    apply(store, manifest(GNP, "one"))
    apply(store, manifest("NetworkPolicy", "two", "shop"))
    apply(store, manifest(GNP, "both"))
    apply(store, manifest("NetworkPolicy", "both", "shop"))
    one, two, both, none = by_name("policy", ["one", "two", "both", "none"], None)
    assert resolve(store, one).key == ResourceKey(GNP, "", "one")
    assert resolve(store, two).key == ResourceKey("NetworkPolicy", "shop", "two")
    with pytest.raises(lookup.AmbiguousError, match=r"GlobalNetworkPolicy\(both\), NetworkPolicy\(shop/both\); say gnp"):
        resolve(store, both)
    with pytest.raises(NotFoundError, match=r"GlobalNetworkPolicy\(none\) or NetworkPolicy\(none\)"):
        resolve(store, none)
    assert resolve(store, by_name("pol", ["both"], "shop")[0]).key.kind == "NetworkPolicy"
    outcome = delete_all(store, [two, both], False)
    assert outcome.kinds == ["NetworkPolicy", GNP]
    assert outcome.succeeded == 1
    assert ResourceKey("NetworkPolicy", "shop", "two") not in store.objects


def test_deleting_what_is_not_there(store):
    targets = by_name("gnp", ["nope"], None)
    outcome = delete_all(store, targets, False)
    assert outcome.failure() == (
        "failed to delete 'GlobalNetworkPolicy' resource: "
        "[resource does not exist: GlobalNetworkPolicy(nope) with error: <nil>]"
    )
    skipped = delete_all(store, targets, True)
    assert skipped.success() == "Successfully deleted 1 'GlobalNetworkPolicy' resource(s)"


def test_a_store_in_trouble_is_asked_once_only(store):
    store.down = "etcd: connection refused"
    outcome = delete_all(store, by_name("gnp", ["a", "b", "c"], None), True)
    assert outcome.errors == ["etcd: connection refused"]
    with pytest.raises(StoreError, match="refused"):
        apply(store, manifest())
