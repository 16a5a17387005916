"""Settings: what each source may say, which source wins, and that nothing in the datastore can raise or open anything."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostward.model import failsafe
from hostward.model.failsafe import FailsafePort, parse_failsafe
from hostward.model.setting_sources import resolve
from hostward.model.settings import BUILT_IN, SETTINGS, Settings, differences, show
from hostward.model.settings_doc import markdown
from hostward.model.value_errors import BadValueError
from hostward.render.options import options


def settle(environ=None, file=None, node=None, default=None, hostname="w1"):
    return resolve(environ or {}, file or {}, node, default, hostname)


def test_without_any_source_everything_is_built_in():
    resolved = settle(hostname="Worker-1.Example")
    assert resolved.settings == msgspec.structs.replace(BUILT_IN, node_name="worker-1.example")
    assert (resolved.errors, resolved.notices) == ((), ())
    assert resolved.sources["healthPort"].source == "built in"
    assert resolved.sources["nodeName"].source == "hostname"


def test_every_attribute_has_one_setting():
    attributes = [setting.attribute for setting in SETTINGS.values()]
    assert attributes == list(Settings.__struct_fields__)
    assert SETTINGS["prometheusMetricsCAFile"].environment == "HOSTWARD_PROMETHEUS_METRICS_CA_FILE"
    assert SETTINGS["clusterGUID"].environment == "HOSTWARD_CLUSTER_GUID"
    assert SETTINGS["ipv6Support"].environment == "HOSTWARD_IPV6_SUPPORT"


@pytest.mark.parametrize("name", [n for n in SETTINGS if show(BUILT_IN, n)])
def test_a_default_reads_back_from_its_own_text(name):
    setting = SETTINGS[name]
    assert setting.type.read(show(BUILT_IN, name)) == getattr(BUILT_IN, setting.attribute)


def test_the_documentation_says_what_the_code_does():
    assert Path("docs/settings.md").read_text() == markdown()


SOURCES = [
    ("environ", {"HOSTWARD_HEALTH_PORT": "1001"}, 1001, "HOSTWARD_HEALTH_PORT"),
    ("environ", {"FELIX_HealthPort": "1002"}, 1002, "FELIX_HealthPort"),
    ("file", {"healthPort": 1003}, 1003, "/etc/hostward/agent.toml"),
    ("node", {"healthPort": 1004}, 1004, "FelixConfiguration node.w1"),
    ("default", {"healthPort": 1005}, 1005, "FelixConfiguration default"),
]


@pytest.mark.parametrize("strongest", range(len(SOURCES)))
def test_the_strongest_source_wins(strongest):
    given_: dict[str, dict[str, object]] = {}
    for kind, values, _, _ in SOURCES[strongest:]:
        given_.setdefault(kind, {}).update(values)
    resolved = settle(**given_)
    assert resolved.settings.health_port == SOURCES[strongest][2]
    assert resolved.sources["healthPort"] == type(resolved.sources["healthPort"])(
        str(SOURCES[strongest][2]), SOURCES[strongest][3]
    )


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "w1"),
        ({"NODENAME": "n"}, "n"),
        ({"NODENAME": "n", "FELIX_FELIXHOSTNAME": "f"}, "f"),
        ({"NODENAME": "n", "FELIX_FELIXHOSTNAME": "f", "HOSTWARD_NODE_NAME": "H"}, "H"),
        ({"NODENAME": ""}, "w1"),
    ],
)
def test_node_name(environ, expected):
    resolved = settle(environ)
    assert resolved.settings.node_name == expected
    assert not resolved.errors


def test_the_node_name_is_never_taken_from_the_datastore():
    resolved = settle(default={"nodeName": "other", "stateDir": "/x"})
    assert resolved.settings.node_name == "w1"
    assert resolved.settings.state_dir == BUILT_IN.state_dir
    assert len(resolved.notices) == 2
    assert not resolved.errors


def test_unknown_names():
    resolved = settle(
        {"HOSTWARD_HEALT_PORT": "9", "FELIX_IPTABLESMARKMASK": "0xff", "FELIX_NONSENSE": "1", "HOSTWARD_DATASTORE": "dir:/x"},
        {"healtPort": 1, "health_port": 1},
        {"iptablesMarkMask": 4278190080, "somethingNew": [[]]},
    )
    assert len(resolved.errors) == 3
    assert all("did you mean" in error for error in resolved.errors)
    assert "HOSTWARD_HEALTH_PORT" in resolved.errors[0]
    assert sum("markMask" in notice for notice in resolved.notices) == 2
    assert len(resolved.notices) == 4
    assert resolved.settings.mark_mask == BUILT_IN.mark_mask


def test_a_name_like_none_is_not_taken_for_one():
    """What all variables begin with makes no two of them alike."""
    resolved = settle({"HOSTWARD_FOO": "1"}, {"foo": 1})
    assert [error.rpartition("; ")[2] for error in resolved.errors] == ["docs/settings.md lists them"] * 2


def test_service_link_variables_are_no_settings():
    links = {
        "HOSTWARD_SERVICE_HOST": "10.0.0.1",
        "HOSTWARD_METRICS_SERVICE_PORT_HTTP": "9091",
        "HOSTWARD_PORT": "tcp://10.0.0.1:9091",
        "HOSTWARD_PORT_9091_TCP_ADDR": "10.0.0.1",
        "HOSTWARD_PORT_9091_TCP": "tcp://10.0.0.1:9091",
        # A Service called hostward-health takes the name of a setting.
        "HOSTWARD_HEALTH_PORT": "tcp://10.0.0.1:9099",
        "FELIX_METRICS_SVC_SERVICE_HOST": "10.0.0.1",
    }
    resolved = settle(links)
    assert (resolved.errors, resolved.notices) == ((), ())
    assert resolved.settings.health_port == 9099
    assert settle({"HOSTWARD_HEALTHY_PORT": "9099"}).errors


def test_a_bad_local_value_is_an_error_and_a_bad_stored_one_a_notice():
    for source in ({"environ": {"HOSTWARD_MAX_IPSET_SIZE": "many"}}, {"file": {"maxIpsetSize": "many"}}):
        resolved = settle(**source, default={"maxIpsetSize": 77})
        assert len(resolved.errors) == 1
        assert "many" in resolved.errors[0]
        assert resolved.settings.max_ipset_size == 77
    resolved = settle(node={"maxIpsetSize": "many"}, default={"maxIpsetSize": 77})
    assert not resolved.errors
    assert resolved.notices == (
        "FelixConfiguration node.w1: maxIpsetSize: 'many' is not a whole number from 1 to 2147483648; it is ignored",
    )
    assert resolved.settings.max_ipset_size == 77


def test_bad_stored_failsafes_leave_the_defaults():
    for bad in (
        None,
        "",
        "tcp",
        "tcp:99999",
        [{"protocol": "tcp"}],
        [{"protocol": "icmp", "port": 1}],
        {"a": 1},
        7,
        [22],
        [{"protocol": "tcp", "port": 22}, {"protocol": "tcp", "port": 22, "net": "x"}],
        ["tcp:22"] * 1001,
    ):
        resolved = settle(default={"failsafeInboundHostPorts": bad})
        assert resolved.settings.failsafe_inbound_host_ports == failsafe.DEFAULT_INBOUND
        assert bool(resolved.notices) == bool(bad)


def test_an_emptied_failsafe_list_is_taken_and_noticed():
    for empty in ([], "none"):
        resolved = settle(default={"failsafeInboundHostPorts": empty})
        assert resolved.settings.failsafe_inbound_host_ports == ()
        assert "failsafeInboundHostPorts" in resolved.notices[0]


def test_default_failsafes_are_felix_s_and_dhcpv6():
    assert " ".join(map(str, failsafe.DEFAULT_INBOUND)) == (
        "tcp:22 udp:68 udp:[fe80::/10]:546 tcp:179 tcp:2379 tcp:2380 tcp:5473 tcp:6443 tcp:6666 tcp:6667"
    )
    assert FailsafePort(17, 547, "fe80::/10") in failsafe.DEFAULT_OUTBOUND
    assert FailsafePort(17, 53) in failsafe.DEFAULT_OUTBOUND
    assert FailsafePort(6, 22) not in failsafe.DEFAULT_OUTBOUND


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("22", FailsafePort(6, 22)),
        ("UDP:68", FailsafePort(17, 68)),
        ("tcp:10.1.2.3/8:22", FailsafePort(6, 22, "10.0.0.0/8")),
        ("udp:[fe80::1/10]:546", FailsafePort(17, 546, "fe80::/10")),
        ("udp:fe80::/10:546", FailsafePort(17, 546, "fe80::/10")),
        ({"protocol": "TCP", "port": 22, "net": "10.0.0.0/8"}, FailsafePort(6, 22, "10.0.0.0/8")),
        ({"protocol": "udp", "port": "53", "net": None}, FailsafePort(17, 53)),
        ({"protocol": "udp", "port": 0, "net": ""}, FailsafePort(17, 0)),
    ],
)
def test_failsafe_entries(raw, expected):
    assert parse_failsafe(raw) == expected
    assert parse_failsafe(str(expected)) == expected


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "tcp:",
        "sctp:1",
        "tcp::22",
        "tcp:x:22",
        "tcp:65536",
        "tcp:-1",
        "tcp:²",
        {"port": 1},
        True,
        {"protocol": "tcp", "port": True},
        {"protocol": "tcp", "port": 1, "nets": []},
    ],
)
def test_bad_failsafe_entries(raw):
    with pytest.raises(BadValueError):
        parse_failsafe(raw)


@pytest.mark.parametrize(
    ("name", "raw", "expected"),
    [
        ("iptablesRefreshInterval", "90", 90.0),
        ("iptablesRefreshInterval", "1m30s", 90.0),
        ("iptablesRefreshInterval", "90s", 90.0),
        ("iptablesRefreshInterval", 90, 90.0),
        ("iptablesRefreshInterval", "none", 0.0),
        ("iptablesLockProbeInterval", "50ms", 0.05),
        ("interfacePrefix", "cali,tap", ("cali", "tap")),
        ("interfacePrefix", ["cali"], ("cali",)),
        ("interfaceExclude", "/^kube.*/,veth1", ("/^kube.*/", "veth1")),
        ("iptablesFilterAllowAction", "RETURN", "Return"),
        ("iptablesFilterDenyAction", "reject", "Reject"),
        ("logSeverityScreen", "Trace", "DEBUG"),
        ("ipv6Support", "false", False),
        ("ipv6Support", False, False),
        ("markMask", "0x3f000000", 0x3F000000),
        ("markMask", 0x3F000000, 0x3F000000),
        ("logActionRateLimit", "10/Minute", "10/minute"),
        ("maxIpsetSize", 1000.0, 1000),
        ("prometheusMetricsClientAuth", "RequireAnyClientCert", "RequireAndVerifyClientCert"),
        ("prometheusMetricsClientAuth", "RequestClientCert", "NoClientCert"),
    ],
)
def test_forms(name, raw, expected):
    resolved = settle(default={name: raw})
    assert getattr(resolved.settings, SETTINGS[name].attribute) == expected
    assert not resolved.notices
    again = settle({SETTINGS[name].environment: resolved.sources[name].value})
    assert getattr(again.settings, SETTINGS[name].attribute) == expected


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("markMask", "0xc000"),
        ("markMask", "0xff00c000"),
        ("markMask", "0x1f000000"),
        ("markMask", "0x1ff000000"),
        ("dataplaneWatchdogTimeout", "19s"),
        ("driftCheckInterval", "0"),
        ("iptablesRefreshInterval", "-1"),
        ("iptablesRefreshInterval", float("nan")),
        ("iptablesRefreshInterval", 1e300),
        ("healthPort", 0),
        ("healthPort", 65536),
        ("healthPort", True),
        pytest.param("healthPort", 10**5000, id="huge"),
        ("interfacePrefix", "a/b"),
        ("interfacePrefix", "fifteen-letters"),
        ("interfacePrefix", ","),
        ("interfaceExclude", "/(a+)+$/"),
        ("interfaceExclude", "/a*a*a*a*a*$/"),
        ("interfaceExclude", "/(/"),
        ("logPrefix", 'x" -j ACCEPT\n'),
        ("logPrefix", "a\nb"),
        ("stateDir", "relative"),
        ("logActionRateLimit", "10000/second"),
        ("iptablesFilterDenyAction", "Accept"),
    ],
)
def test_bad_values(name, raw):
    resolved = settle(file={name: raw})
    assert len(resolved.errors) == 1
    assert resolved.errors[0].startswith(f"/etc/hostward/agent.toml: {name}: ")
    assert getattr(resolved.settings, SETTINGS[name].attribute) == getattr(BUILT_IN, SETTINGS[name].attribute)


def test_felix_s_units_are_in_the_name():
    resolved = settle({"FELIX_IPTABLESLOCKPROBEINTERVALMILLIS": "70", "FELIX_IPTABLESLOCKTIMEOUTSECS": "7"})
    assert resolved.settings.iptables_lock_probe_interval == pytest.approx(0.07)
    assert resolved.settings.iptables_lock_timeout == 7


def test_what_felix_takes_and_we_do_not_is_a_notice():
    resolved = settle({"FELIX_CHAININSERTMODE": "Append", "FELIX_IPTABLESLOCKTIMEOUTSECS": "0"})
    assert not resolved.errors
    assert len(resolved.notices) == 2
    assert resolved.settings.chain_insert_mode == "Insert"
    assert resolved.settings.iptables_lock_timeout == BUILT_IN.iptables_lock_timeout


def test_half_of_tls_is_an_error_only_when_it_is_local():
    half = {"prometheusMetricsCertFile": "/c.pem"}
    assert settle(file=half).errors
    stored = settle(default=half)
    assert (len(stored.notices), stored.errors) == (1, ())
    assert not settle(file=half | {"prometheusMetricsKeyFile": "/k.pem"}).errors


def test_differences():
    assert differences(BUILT_IN, msgspec.structs.replace(BUILT_IN, health_port=1, ipv6_support=False)) == (
        "ipv6_support",
        "health_port",
    )


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["none", "0x", "tcp:[:1", "1e400s"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(SETTINGS)) | st.text(), ANYTHING, max_size=6))
def test_nothing_in_the_datastore_raises_or_stops_the_agent(values):
    resolved = settle(node=values, default=values)
    assert not resolved.errors
    for name in SETTINGS:
        assert isinstance(resolved.sources[name].value, str)
    assert resolved.settings.mark_mask & 0xC000 == 0
    json.dumps(resolved.notices)


@given(st.dictionaries(st.sampled_from([s.environment for s in SETTINGS.values()]), st.text()))
def test_nothing_in_the_environment_raises(environ):
    settle(environ)


@pytest.mark.parametrize(("mask", "told"), [("0x3f000000", True), ("0x7f000000", False), ("", False)])
def test_cutting_connections_needs_a_seventh_bit(mask, told):
    resolved = resolve({"HOSTWARD_CUT_OPEN_CONNECTIONS": "Enabled", "HOSTWARD_MARK_MASK": mask}, {}, None, None, "w1")
    assert any("cutOpenConnections needs 7 bits" in notice for notice in resolved.notices) is told
    assert bool(options(resolved.settings, ()).cut) is not told
    assert options(resolve({}, {}, None, None, "w1").settings, ()).cut == 0
