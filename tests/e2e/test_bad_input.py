"""Whatever is put into etcd, or taken out of it: the agent lives, and what was closed stays closed."""

from __future__ import annotations

import base64
import json
import urllib.request

import pytest

from tests.e2e import documents as d
from tests.e2e.conftest import GUARDED, Site

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
WEB = d.policy_key("web")
DEEP = 5_000


def gateway(site: Site, verb: str, **fields: bytes) -> int:
    """Any bytes as a key or value, which command lines can't carry: through etcd's JSON gateway. The revision."""
    body = json.dumps({name: base64.b64encode(value).decode() for name, value in fields.items()}).encode()
    with site.worker.entered():
        request = urllib.request.Request(f"{site.etcd.url}/v3/kv/{verb}", data=body, method="POST")  # noqa: S310 # the test's own
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 # the same
            return int(json.load(answer)["header"]["revision"])


def put_bytes(site: Site, key: bytes, value: bytes) -> int:
    """Writes; the revision."""
    return gateway(site, "put", key=key, value=value)


def mangled(**changes: object) -> bytes:
    """The policy `web` with other fields in its spec."""
    document = d.policy("web", 10, [d.to_ports("Allow", [80], "TCP")])
    document["spec"] |= changes
    return json.dumps(document).encode()


VALUES: dict[str, bytes] = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "a word": b"allow",
    "half a document": mangled()[:60],
    "nested lists": b"[" * DEEP + b"]" * DEEP,
    "nested objects": b'{"spec":' * DEEP + b"1" + b"}" * DEEP,
    "a nested selector": mangled(selector="(" * DEEP + "all()" + ")" * DEEP),
    "negations without end": mangled(selector="!" * DEEP + "all()"),
    "NUL": mangled() + b"\0",
    "invalid UTF-8": mangled().replace(b"worker", b"\xff\xfe"),
    "a lone surrogate": mangled().replace(b"worker", b"\\ud800"),
    "a huge number": mangled().replace(b'"order": 10', b'"order": 1' + b"0" * 400),
    "a number of many digits": mangled().replace(b'"order": 10', b'"order": ' + b"9" * 6000),
    "not a number": mangled().replace(b'"order": 10', b'"order": NaN'),
    "a huge port": mangled(ingress=[d.to_ports("Allow", [10**30], "TCP")]),
    "a port as an object": mangled(ingress=[{"action": "Allow", "protocol": "TCP", "destination": {"ports": {"80": 81}}}]),
    "rules as a text": mangled(ingress="Allow"),
    "an injected rule": mangled(ingress=[{"action": "Allow\n-A INPUT -j ACCEPT"}]),
    "two megabytes less a bit": mangled(selector="role == '" + "x" * 1_400_000 + "'"),
    "a type from the future": mangled(types=["Ingress", "Sideways"]),
}  # fmt: skip
STRANGE = mangled(selector="role == 'wor\0ker'")
"""Well-formed, and nobody's."""
KEYS: tuple[bytes, ...] = (
    d.ROOT.encode(),
    d.ROOT.encode() + b"/",
    d.ROOT.encode() + b"globalnetworkpolicies",
    d.ROOT.encode() + b"globalnetworkpolicies/",
    d.ROOT.encode() + b"globalnetworkpolicies/a/b/c",
    d.ROOT.encode() + b"globalnetworkpolicies/\xff\xfe",
    d.ROOT.encode() + b"globalnetworkpolicies/nul\0nul",
    d.ROOT.encode() + b"globalnetworkpolicies/new\nline -j ACCEPT",
    d.ROOT.encode() + b"globalnetworkpolicies/" + b"long" * 2000,
    d.ROOT.encode() + b"globalnetworkpolicies/default.\xf0\x9f\x94\xa5",
    d.ROOT.encode() + b"hostendpoints/../../x",
    d.ROOT.encode() + b"unheardof/x",
    d.ROOT.encode() + b"networkpolicies/only-a-namespace",
)


def test_values_of_a_policy_in_force(guarded: Site) -> None:
    """None of them is understood: the last version that was stays in force (D4), and the revision moves on."""
    before = guarded.everything()
    for name, value in VALUES.items():
        revision = put_bytes(guarded, WEB.encode(), value)
        guarded.agent.wait_applied(revision)
        assert guarded.everything() == before, name
        (aside,) = {(entry["key"], entry["olderInForce"]) for entry in guarded.agent.status()["setAside"]}
        assert aside == ("GlobalNetworkPolicy(default.web)", True), name
    assert guarded.reached() == GUARDED
    assert guarded.agent.metric("hostward_objects_set_aside", kind="GlobalNetworkPolicy") == 1
    assert guarded.agent.metric("hostward_applied_revision") == guarded.agent.metric("hostward_desired_revision") == revision
    text = guarded.agent.command("status")
    assert text.returncode == 0
    assert "GlobalNetworkPolicy(default.web)" in text.stdout
    guarded.agent.wait_applied(put_bytes(guarded, WEB.encode(), STRANGE))
    assert guarded.agent.status()["setAside"] == []
    assert guarded.reached() == {"v4": (22, 81), "v6": (22, 81)}


def test_values_that_a_fresh_agent_finds(site: Site) -> None:
    """No older version is known: each opens nothing, in whatever kind of object it stands."""
    site.guard()
    for number, value in enumerate(VALUES.values()):
        for kind in ("globalnetworkpolicies", "globalnetworksets", "tiers", "profiles", "nodes", "felixconfigurations"):
            put_bytes(site, f"{d.ROOT}{kind}/bad{number}".encode(), value)
        # One that names the interface would be a second endpoint for it: that it can't be read must not open it.
        put_bytes(site, d.endpoint_key(f"bad{number}").encode(), value)
    site.etcd.delete(d.policy_key("web"))
    revision = put_bytes(
        site, f"{d.ROOT}felixconfigurations/default".encode(), b'{"spec":{"failsafeInboundHostPorts":[{"port":80}]}}'
    )
    site.agent.start()
    site.agent.wait_applied(revision)
    # One of them is a policy with a rule of unknown action and no criteria: it denies, before 81 is allowed (D4).
    assert site.reached() == {"v4": (22,), "v6": (22,)}
    assert site.agent.health("readiness")[0] == 200
    assert site.agent.command("status").returncode == 0


def test_keys_of_odd_shape(guarded: Site) -> None:
    before = guarded.everything()
    allow = json.dumps(d.policy("odd", 1, [{"action": "Allow"}])).encode()
    for key in KEYS:
        revision = put_bytes(guarded, key, b"[" * DEEP)
        guarded.agent.wait_applied(revision)
        assert guarded.everything() == before, key
    # Some of them are names like any other; whatever the others are, the agent lives and says so.
    for key in KEYS:
        revision = put_bytes(guarded, key, allow)
        guarded.agent.wait_applied(revision)
    assert guarded.agent.command("status").returncode == 0
    for key in KEYS:
        revision = gateway(guarded, "deleterange", key=key)
        guarded.agent.wait_applied(revision)
    assert guarded.everything() == before
    guarded.agent.stop()
    guarded.agent.start()
    guarded.agent.wait_applied(revision)
    assert guarded.everything() == before


def in_doubt(site: Site, revision: int, reason: str) -> None:
    """Received and not applied: readiness says why, the kernel stays as it was."""
    applied = site.agent.metric("hostward_applied_revision")
    site.agent.wait_received(revision)
    site.until("readiness says so", lambda: reason in site.agent.health("readiness")[1])
    assert site.agent.health("readiness")[0] == 503
    assert site.agent.health("liveness")[0] == 200
    site.until("metrics say so", lambda: site.agent.metric("hostward_desired_revision") == revision)
    assert site.agent.metric("hostward_applied_revision") == applied < revision
    assert reason in site.agent.status()["frozen"][0]
    assert "Frozen:" in site.agent.command("status").stdout


@pytest.mark.parametrize("how", ["deleted", "not ready", "unreadable", "another cluster", "emptied"])
def test_a_store_in_doubt_opens_nothing(guarded: Site, how: str) -> None:
    before = guarded.everything()
    everything = guarded.etcd.list("/calico")
    reason = "ClusterInformation is missing"
    if how == "deleted":
        guarded.etcd.delete(d.CLUSTER)
    elif how == "emptied":
        guarded.etcd.delete("/calico", prefix=True)
    elif how == "not ready":
        guarded.etcd.put(d.CLUSTER, d.cluster(ready=False))
        reason = "datastoreReady"
    elif how == "unreadable":
        guarded.etcd.put(d.CLUSTER, b"[" * DEEP)
        reason = "datastoreReady"
    else:
        guarded.etcd.put(d.CLUSTER, d.cluster("another"))
        reason = "another cluster"
    if how != "emptied":
        guarded.etcd.delete(d.endpoint_key("w0"))
    in_doubt(guarded, guarded.etcd.revision(), reason)
    assert guarded.everything() == before
    # A new agent finds the same doubt, and the rules that are there stay.
    guarded.agent.kill()
    guarded.agent.start()
    guarded.until("it has seen the store", lambda: bool(guarded.agent.status().get("desiredRevision")))
    guarded.until("readiness says so", lambda: reason in guarded.agent.health("readiness")[1])
    assert guarded.everything() == before
    assert guarded.reached() == GUARDED
    # What was restored is followed again, in whatever order it comes.
    for key, value in everything.items():
        revision = guarded.etcd.put(key, value)
    guarded.agent.wait_applied(revision)
    assert guarded.everything() == before
    assert guarded.agent.health("readiness")[0] == 200
    revision = guarded.etcd.put(WEB, d.policy("web", 10, [d.to_ports("Deny", [80], "TCP")]))
    guarded.agent.wait_applied(revision)
    assert guarded.reached() == {"v4": (22, 81), "v6": (22, 81)}


def test_a_cluster_that_the_operator_names_is_accepted(guarded: Site) -> None:
    guarded.etcd.put(d.CLUSTER, d.cluster("another"))
    revision = guarded.etcd.delete(WEB)
    in_doubt(guarded, revision, "another cluster")
    guarded.agent.stop()
    guarded.agent.env["HOSTWARD_CLUSTER_GUID"] = "another"
    guarded.agent.start()
    guarded.agent.wait_applied(revision)
    assert guarded.reached() == {"v4": (22, 81), "v6": (22, 81)}
    guarded.agent.stop()
    del guarded.agent.env["HOSTWARD_CLUSTER_GUID"]
    guarded.agent.start()
    guarded.agent.wait_applied(revision)
