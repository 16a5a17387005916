"""The commands that users of Calico know, against a real etcd, as transcripts; and what stands in etcd afterwards."""

import json
import re

import pytest

from hostward import __version__
from hostward.cli.main import main
from hostward.datastore import connection
from tests.lab.etcd import Etcd
from tests.unit.test_convert_v1 import PAGE

pytestmark = pytest.mark.etcd

ROOT = "/calico/resources/v3/projectcalico.org/"
NODES = [f"kube-dal10-crc21191ee3997497ca90c8173bbdaf560-w{n}.cloud.ibm" for n in (1, 2, 3)]
V1_NODE = "apiVersion: v1\nkind: node\nmetadata:\n  name: {}\nspec:\n  bgp:\n    ipv4Address: 10.0.0.{}/24\n"
V1_ENDPOINT = """\
- apiVersion: v1
  kind: hostEndpoint
  metadata:
    labels:
      ibm.role: worker_public
    name: {0}_worker_public
    node: {0}
  spec:
    interfaceName: eth1
"""


@pytest.fixture(scope="module")
def etcd():
    with Etcd() as server:
        yield server


@pytest.fixture
def hw(etcd, tmp_path, monkeypatch, capsys):
    """Runs a command against a store that is empty at first; exit code, stdout with changing values named, stderr."""
    etcd.ctl("del", "--prefix", "/calico/")
    for name in ("HOSTWARD_DATASTORE", "ETCD_ENDPOINTS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in etcd.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def run(*args):
        code = main(args)
        out, err = capsys.readouterr()
        out = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", "UID", out)
        out = re.sub(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", out)
        return code, re.sub(r'resourceVersion: "\d+"', "resourceVersion: REVISION", out), err

    run.file = lambda text, name="m.yaml": (tmp_path / name).write_text(text) and name
    return run


def ok(hw, *args):
    code, out, err = hw(*args)
    assert (code, err) == (0, "")
    return out


@pytest.fixture
def config(hw, etcd):
    """The page's calicoctl.cfg, without TLS; and nothing in the environment."""
    text = f"apiVersion: v1\nkind: calicoApiConfig\nmetadata:\nspec:\n    etcdEndpoints: {etcd.url}\n"
    return hw.file(text, "calicoctl.cfg")


POLICY_YAML = """\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata:
  creationTimestamp: "TIME"
  labels:
    projectcalico.org/tier: default
  name: deny-kube-node-port-services
  resourceVersion: REVISION
  uid: UID
spec:
  applyOnForward: true
  ingress:
  - action: Deny
    destination:
      ports:
      - 30000:32767
    protocol: TCP
  - action: Deny
    destination:
      ports:
      - 30000:32767
    protocol: UDP
  preDNAT: true
  selector: ibm.role in { 'worker_public', 'master_public' }
  tier: default
  types:
  - Ingress
"""


def test_version(hw):
    assert ok(hw, "version") == f"Client Version:    {__version__}\n"


def test_get_nodes_in_both_ways(hw, config, monkeypatch):
    for number, name in enumerate(NODES):
        assert ok(hw, "apply", "-f", hw.file(V1_NODE.format(name, number))) == "Successfully applied 1 'Node' resource(s)\n"
    width = max(map(len, NODES)) + 3
    table = "".join(f"{line:{width}}\n" for line in ("NAME", *NODES)) + "\n"
    assert ok(hw, "get", "nodes") == table
    monkeypatch.delenv("ETCD_ENDPOINTS")
    code, out, err = hw("get", "nodes", f"--config={config}")
    assert (code, out) == (0, table)
    assert err.count("\n") <= 1  # at most the notice that the datastore API is v3


def test_get_hostendpoint_as_yaml(hw):
    name = NODES[0]
    code, out, err = hw("apply", "-f", hw.file(V1_ENDPOINT.format(name)))
    assert (code, out) == (0, "Successfully applied 1 'HostEndpoint' resource(s)\n")
    stored = re.fullmatch(rf"hostEndpoint '{name}_worker_public' is stored as HostEndpoint '(.*)'\n", err)[1]
    assert re.fullmatch(rf"{name}\.{name}-worker-public-[0-9a-f]{{8}}", stored)
    assert (
        ok(hw, "get", "hostendpoint", "-o", "yaml")
        == f"""\
apiVersion: projectcalico.org/v3
items:
- apiVersion: projectcalico.org/v3
  kind: HostEndpoint
  metadata:
    annotations:
      hostward/v1-name: {name}_worker_public
    creationTimestamp: "TIME"
    labels:
      ibm.role: worker_public
    name: {stored}
    resourceVersion: REVISION
    uid: UID
  spec:
    interfaceName: eth1
    node: {name}
kind: HostEndpointList
metadata:
  resourceVersion: REVISION
"""
    )
    assert stored in ok(hw, "get", "hep", f"{name}_worker_public", "-o", "wide")


def test_policies(hw, config, monkeypatch):
    recipe = hw.file(PAGE, "deny-kube-node-port-services.yaml")
    assert ok(hw, "apply", "-f", recipe) == "Successfully applied 1 'GlobalNetworkPolicy' resource(s)\n"
    assert ok(hw, "get", "policy", "-o", "wide") == (
        "NAME                           TIER      ORDER   SELECTOR                                           \n"
        "deny-kube-node-port-services   default   <nil>   ibm.role in { 'worker_public', 'master_public' }   \n\n"
    )
    assert ok(hw, "get", "policy", "-o", "yaml", "deny-kube-node-port-services") == POLICY_YAML
    items = "".join(f"  {line}\n" for line in POLICY_YAML.splitlines())
    assert ok(hw, "get", "policy", "-o", "yaml") == (
        f"apiVersion: projectcalico.org/v3\nitems:\n- {items[2:]}kind: GlobalNetworkPolicyList\n"
        "metadata:\n  resourceVersion: REVISION\n"
    )
    monkeypatch.delenv("ETCD_ENDPOINTS")
    code, out, _ = hw("apply", "-f", recipe, f"--config={config}")
    assert (code, out) == (0, "Successfully applied 1 'GlobalNetworkPolicy' resource(s)\n")


def test_what_stands_in_etcd(hw, etcd):
    ok(hw, "apply", "-f", hw.file(PAGE))
    raw = etcd.get(f"{ROOT}globalnetworkpolicies/deny-kube-node-port-services")
    document = json.loads(raw)
    assert list(document) == ["kind", "apiVersion", "metadata", "spec"]
    uid, created = document["metadata"].pop("uid"), document["metadata"].pop("creationTimestamp")
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", uid)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", created)
    assert document == {
        "kind": "GlobalNetworkPolicy",
        "apiVersion": "projectcalico.org/v3",
        "metadata": {
            "name": "deny-kube-node-port-services",
            "labels": {"projectcalico.org/tier": "default"},
            "annotations": {"projectcalico.org/metadata": '{"name":"deny-kube-node-port-services"}'},
        },
        "spec": {
            "preDNAT": True,
            "applyOnForward": True,
            "types": ["Ingress"],
            "selector": "ibm.role in { 'worker_public', 'master_public' }",
            "tier": "default",
            "ingress": [
                {"action": "Deny", "protocol": "TCP", "destination": {"ports": ["30000:32767"]}},
                {"action": "Deny", "protocol": "UDP", "destination": {"ports": ["30000:32767"]}},
            ],
        },
    }
    # a second apply keeps the identity
    ok(hw, "apply", "-f", "m.yaml")
    again = json.loads(etcd.get(f"{ROOT}globalnetworkpolicies/deny-kube-node-port-services"))["metadata"]
    assert (again["uid"], again["creationTimestamp"]) == (uid, created)


def test_writing_initialises_and_reading_does_not(hw, etcd):
    ok(hw, "get", "tiers")
    assert etcd.get(f"{ROOT}clusterinformations/default") is None
    ok(hw, "apply", "-f", hw.file(PAGE))
    information = json.loads(etcd.get(f"{ROOT}clusterinformations/default"))
    assert information["spec"]["datastoreReady"] is True
    assert re.fullmatch(r"[0-9a-f]{32}", information["spec"]["clusterGUID"])
    assert ok(hw, "version", "--cluster").splitlines()[1:] == ["Cluster Version:   unknown", "Cluster Type:      hostward"]


INITIALISED = """\
--- /dev/null
+++ ClusterInformation(default) (after)
@@ -0,0 +1,8 @@
+apiVersion: projectcalico.org/v3
+kind: ClusterInformation
+metadata:
+  name: default
+spec:
+  clusterGUID: (random, made when it is written)
+  clusterType: hostward
+  datastoreReady: true
"""


def test_a_store_in_use_that_lost_its_name_is_told_of(hw, etcd):
    """Agents don't follow a GUID that they don't know: who gives the store a new one by the way must hear of it."""
    hw.file(PAGE)
    assert "clusterGUID" not in hw("apply", "-f", "m.yaml")[2]
    etcd.ctl("del", f"{ROOT}clusterinformations/default")
    for args in (("apply", "-f", "m.yaml", "--dry-run"), ("apply", "-f", "m.yaml")):
        assert hw(*args)[2].startswith("warning: resources are stored, but no ClusterInformation")
    assert "clusterGUID" not in hw("apply", "-f", "m.yaml")[2]


def test_a_dry_run_on_an_empty_etcd_shows_how_it_would_be_initialised(hw, etcd):
    file = hw.file(PAGE)
    for verb in ("apply", "create"):
        code, out, err = hw(verb, "-f", file, "--dry-run")
        assert (code, err) == (
            0, "dry run, nothing was written: 5 to create, 0 to change, 0 to delete, 0 to stay as is\n",
        )  # fmt: skip
        assert out.startswith(INITIALISED)
        assert re.findall(r"^\+\+\+ (.*) \(after\)$", out, re.M)[1:] == [
            "Tier(kube-admin)", "Tier(default)", "Tier(kube-baseline)", "GlobalNetworkPolicy(deny-kube-node-port-services)",
        ]  # fmt: skip
    assert hw("delete", "gnp", "x", "-s", "--dry-run")[1] == ""  # a real one would not initialise it either
    assert etcd.list("/calico/") == {}
    ok(hw, "apply", "-f", file)
    summary = "dry run, nothing was written: 0 to create, 0 to change, 0 to delete, 1 to stay as is\n"
    assert hw("apply", "-f", file, "--dry-run") == (0, "", summary)


def test_a_policy_of_an_older_calico_is_found_updated_and_deleted(hw, etcd):
    key = f"{ROOT}globalnetworkpolicies/default.deny-kube-node-port-services"
    old = {"name": "default.deny-kube-node-port-services", "uid": "u", "creationTimestamp": "2019-01-01T00:00:00Z"}
    etcd.put(key, json.dumps({"kind": "GlobalNetworkPolicy", "metadata": old, "spec": {"order": 1, "types": ["Ingress"]}}))
    assert "\ndeny-kube-node-port-services   default" in ok(hw, "get", "policy")
    ok(hw, "apply", "-f", hw.file(PAGE))
    stored = json.loads(etcd.get(key))
    assert stored["spec"]["preDNAT"] is True
    assert stored["metadata"]["uid"] == "u"
    assert etcd.get(key.replace("default.", "")) is None
    ok(hw, "delete", "policy", "deny-kube-node-port-services")
    assert etcd.get(key) is None


def test_a_broken_value_can_be_deleted_and_does_not_hide_the_others(hw, etcd):
    ok(hw, "apply", "-f", hw.file(PAGE))
    etcd.put(f"{ROOT}globalnetworkpolicies/broken", "{")
    assert "deny-kube" in ok(hw, "get", "policy")
    code, _, err = hw("get", "gnp", "broken")
    assert code == 1
    assert "not a JSON object" in err
    assert ok(hw, "delete", "gnp", "broken") == "Successfully deleted 1 'GlobalNetworkPolicy' resource(s)\n"
    assert etcd.get(f"{ROOT}globalnetworkpolicies/broken") is None


def test_a_store_that_is_not_there(hw, monkeypatch):
    hw.file(PAGE)
    monkeypatch.setenv("ETCD_ENDPOINTS", "http://127.0.0.1:1")
    for args in (("get", "nodes"), ("apply", "-f", "m.yaml"), ("delete", "gnp", "a")):
        code, out, err = hw(*args)
        assert (code, out) == (1, "")
        assert "127.0.0.1:1" in err
        assert "Connection refused" in err
        assert "nothing says" not in err


def test_a_store_that_nobody_named_is_not_there(hw, monkeypatch):
    monkeypatch.delenv("ETCD_ENDPOINTS")
    monkeypatch.setattr(connection, "DEFAULT_AUTHORITY", "127.0.0.1:1")
    code, out, err = hw("get", "nodes")
    assert (code, out) == (1, "")
    assert err.startswith("http://127.0.0.1:1: Connection refused; nothing says where etcd is: set ETCD_ENDPOINTS")


def test_losing_the_way_to_etcd_is_warned_of_and_done(hw, etcd):
    endpoint = {"apiVersion": "projectcalico.org/v3", "kind": "HostEndpoint", "metadata": {"name": "here"}}
    endpoint["spec"] = {"node": "here", "interfaceName": "eth0", "expectedIPs": ["127.0.0.1"]}
    warning = (
        f"warning: etcd at 127.0.0.1 port {etcd.port} is behind HostEndpoint(here), where no policy would allow "
        f"TCP {etcd.port} any more and it is no inbound failsafe: agents and this command may lose etcd\n"
    )
    file = hw.file(json.dumps(endpoint))
    code, _, err = hw("apply", "-f", file, "--dry-run")
    assert (code, err.startswith(warning)) == (0, True)
    assert etcd.get(f"{ROOT}hostendpoints/here") is None
    assert etcd.get(f"{ROOT}clusterinformations/default") is None
    assert hw("apply", "-f", file) == (0, "Successfully applied 1 'HostEndpoint' resource(s)\n", warning)
    assert hw("apply", "-f", file) == (0, "Successfully applied 1 'HostEndpoint' resource(s)\n", "")
