"""validate, convert, defaults and completion: verbs that need no datastore."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml

from hostward.convert.lint import warnings
from hostward.convert.worker_defaults import Values, documents
from hostward.model.keys import ResourceKey
from tests.unit.command_line import V3, CommandLine
from tests.unit.test_convert_v1 import PAGE


@pytest.fixture
def hw(tmp_path, monkeypatch, capsys):
    made = CommandLine(tmp_path, monkeypatch, capsys)
    monkeypatch.setenv("HOSTWARD_DATASTORE", "dir:/nonexistent")  # nothing may be asked of it
    return made


LOG_ONLY = "apiVersion: v1\nkind: policy\nmetadata:\n  name: only_log\nspec:\n  selector: all()\n  ingress:\n  - action: log\n"


def test_validate(hw):
    assert hw.ok("validate", "-f", hw.file(PAGE)) == "Successfully validated 1 'GlobalNetworkPolicy' resource(s)\n"
    assert hw.ok("validate", "-f", "-", stdin=PAGE + "---\n" + V3.format(kind="Tier", name="a", spec="{}")) == (
        "Successfully validated 2 resource(s)\n"
    )
    err = hw.fails("validate", "-f", hw.file(PAGE + "---\n" + V3.format(kind="Tier", name="a", spec="{ordr: 1}")))
    assert err.splitlines() == [
        "error: m.yaml:23: document 2: spec.ordr: unknown field; did you mean 'order'?",
        "failed to validate: 1 error(s), 0 warning(s); 1 document(s) are valid",
    ]


def test_warnings_say_where_in_the_file(hw):
    code, out, err = hw.run("validate", "-f", hw.file(LOG_ONLY))
    assert (code, out) == (0, "Successfully validated 1 'GlobalNetworkPolicy' resource(s)\n")
    assert err == (
        "warning: m.yaml:7: document 1: spec.ingress: every rule only logs, "
        "and what a policy's rules don't allow is denied at the end of its tier\n"
    )
    assert hw.fails("validate", "--strict", "-f", "m.yaml").endswith("0 error(s), 1 warning(s); 1 document(s) are valid\n")


def test_validate_for_machines(hw):
    hw.file("a: [", "broken.yaml")
    code, out, err = hw.run("validate", "-o", "json", "-f", hw.file(LOG_ONLY), "-f", "broken.yaml")
    assert (code, err) == (1, "")
    report = json.loads(out)
    assert report["valid"] is False
    assert report["resources"] == [{"kind": "GlobalNetworkPolicy", "namespace": "", "name": report["resources"][0]["name"]}]
    assert [(one["file"], one["line"], one["document"]) for one in report["errors"]] == [("broken.yaml", 1, 0)]
    assert [(one["file"], one["line"], one["document"], one["path"]) for one in report["warnings"]] == [
        ("m.yaml", 7, 1, "spec.ingress")
    ]
    assert json.loads(hw.ok("validate", "-o", "json", "-f", hw.file(PAGE)))["valid"] is True


def test_convert(hw):
    code, out, err = hw.run("convert", "-f", hw.file(PAGE.replace("deny-kube-node-port-services", "Block_NodePorts")))
    assert (code, err) == (0, "policy 'Block_NodePorts' becomes GlobalNetworkPolicy 'block-nodeports-6df207f1'\n")
    document = yaml.safe_load(out)
    assert document["apiVersion"] == "projectcalico.org/v3"
    assert document["spec"]["applyOnForward"] is True
    assert hw.ok("validate", "-f", "-", stdin=out)
    both = hw.ok("convert", "-o", "json", "-f", hw.file(PAGE + "---\n" + V3.format(kind="Tier", name="a", spec="{order: 5}")))
    assert [one["kind"] for one in json.loads(both)] == ["GlobalNetworkPolicy", "Tier"]
    assert hw.ok("validate", "-f", "-", stdin=both)


def test_convert_judges_unless_told_not_to(hw):
    hw.file(V3.format(kind="Tier", name="a", spec="{ordr: 5}"))
    assert "unknown field" in hw.fails("convert", "-f", "m.yaml")
    assert "ordr: 5" in hw.ok("convert", "--ignore-validation", "-f", "m.yaml")
    for text in ("kind: [a]\napiVersion: projectcalico.org/v3\n", "a: b\n", "[", V3.format(kind="Tier", name="5", spec="{}")):
        assert "m.yaml" in hw.fails("convert", "--ignore-validation", "-f", hw.file(text))


# --- defaults


def test_defaults_are_valid_in_a_safe_order_and_always_the_same(hw):
    args = ("defaults", "--node", "w1", "--public-address", "192.0.2.10", "--management-network", "198.51.100.0/24")
    text = hw.ok(*args)
    assert text == hw.ok(*args)
    found = list(yaml.safe_load_all(text))
    assert [one["kind"] for one in found] == ["GlobalNetworkSet", *["GlobalNetworkPolicy"] * 7, *["HostEndpoint"] * 2]
    code, out, err = hw.run("validate", "--strict", "-f", "-", stdin=text)
    assert (code, out, err) == (0, "Successfully validated 10 resource(s)\n", "")
    assert json.loads(hw.ok(*args, "-o", "json")) == found


def by_name(*args, **values):
    return {one["metadata"]["name"]: one for one in documents(Values(*args, **values))}


PUBLIC = "ibm.role in { 'worker_public', 'master_public' }"


@pytest.mark.parametrize(
    ("name", "order", "selector", "types", "rules"),
    [
        ("allow-all-outbound", 1900, PUBLIC, ["Egress"], [{"action": "Allow"}]),
        ("allow-bigfix-port", 1900, PUBLIC, ["Ingress"],
         [{"action": "Allow", "protocol": protocol, "destination": {"ports": [52311]}} for protocol in ("TCP", "UDP")]),
        ("allow-icmp", 1500, PUBLIC, ["Ingress"], [{"action": "Allow", "protocol": "ICMP"}]),
        ("allow-node-port-dnat", 1500, "ibm.role == 'worker_public'", ["Ingress"],
         [{"action": "Allow", "destination": {"nets": ["172.30.0.0/16"]}}]),
        ("allow-sys-mgmt", 1950, PUBLIC, ["Ingress"], [{"action": "Allow", "source": {"selector": "role == 'management'"}}]),
        ("allow-vrrp", 1500, "ibm.role == 'worker_public'", ["Ingress"], [{"action": "Allow", "protocol": 112}]),
        ("allow-all-private-default", 100000, "ibm.role == 'worker_private'", ["Ingress", "Egress"], [{"action": "Allow"}]),
    ],
)  # fmt: skip
def test_the_policies_are_those_of_the_page(name, order, selector, types, rules):
    spec = by_name()[name]["spec"]
    assert (spec["order"], spec["selector"], spec["types"]) == (order, selector, types)
    for direction in types:
        assert spec[direction.lower()] == rules
    assert "applyOnForward" not in spec
    assert by_name(apply_on_forward=True)[name]["spec"]["applyOnForward"] is True


def test_the_values_go_where_they_belong():
    found = by_name(
        nodes=("w1",),
        public_addresses=("192.0.2.1", "2001:db8::1"),
        private_interface="",
        pod_networks=("10.0.0.0/16", "fd00::/48", "10.1.0.0/16"),
        service_ports=(1, 2),
        management_networks=("198.51.100.0/24",),
    )
    assert found["w1-worker-public"]["spec"] == {
        "node": "w1", "interfaceName": "eth1", "expectedIPs": ["192.0.2.1", "2001:db8::1"],
    }  # fmt: skip
    assert found["w1-worker-public"]["metadata"]["labels"] == {"ibm.role": "worker_public"}
    assert "w1-worker-private" not in found
    assert [rule["destination"]["nets"] for rule in found["allow-node-port-dnat"]["spec"]["ingress"]] == [
        ["10.0.0.0/16", "10.1.0.0/16"], ["fd00::/48"],
    ]  # fmt: skip
    assert [rule["protocol"] for rule in found["allow-icmp"]["spec"]["ingress"]] == ["ICMP", "ICMPv6"]
    assert found["allow-bigfix-port"]["spec"]["ingress"][0]["destination"]["ports"] == [1, 2]
    assert found["management-systems"]["spec"]["nets"] == ["198.51.100.0/24"]
    keyed = [(ResourceKey(one["kind"], "", name), one) for name, one in found.items()]
    assert warnings(keyed) == []


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (("--public-address", "192.0.2.1"), 2, "Addresses belong to one --node"),
        (("--node", "a", "--public-address", "x"), 2, "--public-address: 'x' is not an IP address."),
        (("--pod-network", "10.0.0.0/33"), 2, "--pod-network: '10.0.0.0/33' is not a network."),
        (("--service-port", "0"), 2, "0 is not in the range"),
        (("--node", "A_b"), 1, "A_b-worker-public: metadata.name: "),
        (("--node", "a", "--public-interface", "a b"), 1, "spec.interfaceName: 'a b' is no interface"),
    ],
)
def test_values_that_are_refused(hw, args, code, text):
    assert text in hw.run("defaults", *args)[2]
    assert hw.run("defaults", *args)[:2] == (code, "")


# --- completion


def test_completion_scripts(hw):
    assert "_HOSTWARD_COMPLETE=zsh_complete" in hw.ok("completion", "zsh")
    assert "_HOSTWARD_COMPLETE=fish_complete" in hw.ok("completion", "fish")
    assert hw.run("completion", "csh")[0] == 2


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("words", "word", "expected"),
    [
        ("hostward ", "1", {"apply", "validate", "completion", "cleanup"}),
        ("hostward app", "1", {"apply"}),
        ("hostward get hos", "2", {"hostendpoint", "hostendpoints"}),
        ("hostward get GNP", "2", {"gnp", "gnps"}),
        ("hostward apply --dr", "2", {"--dry-run"}),
        ("hostward -o yaml get tie", "4", {"tier", "tiers"}),
        ("hostward defaults -o ", "3", {"yaml", "json"}),
    ],
)
def test_what_is_completed(words, word, expected):
    environ = os.environ | {"_HOSTWARD_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": word}
    code = "import sys; from hostward.cli.main import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert expected <= {line.partition(",")[2] for line in done.stdout.splitlines()}
