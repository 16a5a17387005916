"""Objects of Kubernetes in manifests: converted, stored, taken away again."""

import json

import click
import pytest
import yaml

from hostward.cli.kube_controller import command
from tests.unit.command_line import CommandLine

POLICY = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: web
spec:
  podSelector: {}
  ingress:
  - from:
    - namespaceSelector: {matchLabels: {team: x}}
"""
NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: x}}\n"
POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {nodeName: w1}\nstatus: {podIP: 10.0.0.1}\n"
ACCOUNT = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: bot, namespace: shop}\n"
ADMIN = """\
apiVersion: policy.networking.k8s.io/v1alpha1
kind: AdminNetworkPolicy
metadata: {name: guard}
spec:
  priority: 3
  subject: {namespaces: {}}
  ingress:
  - {action: Deny, from: [{namespaces: {matchLabels: {team: x}}}]}
"""


@pytest.fixture
def hw(tmp_path, monkeypatch, capsys):
    return CommandLine(tmp_path, monkeypatch, capsys)


def test_convert(hw):
    code, out, err = hw.run("convert", "-o", "json", "-f", hw.file("---\n".join([POLICY, NAMESPACE, POD, ACCOUNT])))
    assert code == 0
    found = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in json.loads(out)]
    assert found == [
        ("NetworkPolicy", "default", "knp.default.web"),
        ("Profile", None, "kns.shop"),
        ("WorkloadEndpoint", "default", "w1-k8s-p-eth0"),
        ("Profile", None, "ksa.shop.bot"),
    ]
    assert err.splitlines()[0] == "NetworkPolicy 'web' becomes NetworkPolicy 'knp.default.web'"


def test_what_is_wrong_is_an_error_with_its_line(hw):
    bad = POLICY.replace("matchLabels: {team: x}", "matchLabel: {team: x}")
    assert hw.fails("convert", "-f", hw.file(bad)) == (
        "failed to execute command: m.yaml:9: document 1: spec.ingress[0].from[0].namespaceSelector.matchLabel: "
        "unknown field; did you mean 'matchLabels'?; this peer is left out\n"
    )


def test_what_is_applied_is_stored_and_can_be_applied_again_and_deleted(hw):
    file = hw.file("---\n".join([POLICY, ADMIN, NAMESPACE]))
    for _ in range(2):
        code, _, _ = hw.run("apply", "-f", file, "-n", "shop")
        assert code == 0
    stored = hw.stored("networkpolicy", "knp.default.web", "-n", "shop")
    assert (stored["spec"]["order"], stored["metadata"]["namespace"]) == (1000, "shop")
    assert hw.stored("gnp", "kanp.adminnetworkpolicy.guard")["spec"]["order"] == 3
    assert hw.stored("tier", "adminnetworkpolicy")["spec"]["defaultAction"] == "Pass"
    assert "the copy of a Kubernetes NetworkPolicy" in hw.fails("delete", "np", "knp.default.web", "-n", "shop")
    code, _, _ = hw.run("delete", "-f", file, "-n", "shop")
    assert code == 0
    assert hw.run("get", "networkpolicy", "knp.default.web", "-n", "shop")[0] == 1
    assert hw.stored("tier", "adminnetworkpolicy")  # others may have policies in it


def test_the_copy_itself_still_belongs_to_kubernetes(hw):
    _, out, _ = hw.run("convert", "-f", hw.file(POLICY))
    assert "the copy of a Kubernetes NetworkPolicy" in hw.fails("apply", "-f", hw.file(out))


@pytest.mark.parametrize("text", [POD, "apiVersion: v1\nkind: Node\nmetadata: {name: w1}\n"])
def test_what_the_network_of_a_node_keeps_isnt_written(hw, text):
    assert "kept by what manages the node's network" in hw.fails("apply", "-f", hw.file(text))
    assert "kept by what manages the node's network" in hw.fails("delete", "-f", hw.file(text))


def test_a_list_as_kubectl_prints_it(hw):
    items = [yaml.safe_load(NAMESPACE), yaml.safe_load(ACCOUNT)]
    items[0]["metadata"] |= {"uid": "u", "resourceVersion": "7", "managedFields": [{}]}
    _, out, _ = hw.run("convert", "-f", hw.file(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items})))
    assert [one["metadata"]["name"] for one in yaml.safe_load(out)] == ["kns.shop", "ksa.shop.bot"]


def api_server(text):
    return next(one for one in command.params if one.name == "api_server").process_value(click.Context(command), text)


@pytest.mark.parametrize(
    ("text", "found"),
    [("10.0.0.1:6443", ("10.0.0.1", 6443)), ("api.example:443", ("api.example", 443)), ("[2001:db8::1]:1", ("2001:db8::1", 1))],
)
def test_an_api_server(text, found):
    assert api_server(text) == found


@pytest.mark.parametrize("text", ["", "api", "api:", ":443", "api:0", "api:65536", "a:1:2", "2001:db8::1", "[api]:443", "[]:1"])
def test_what_is_no_api_server(text):
    with pytest.raises(click.BadParameter, match="HOST:PORT"):
        api_server(text)
