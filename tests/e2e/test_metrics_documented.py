"""What a live agent serves is what docs/metrics.md lists, what our dashboard and alerts ask for, and what Felix's asks for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e import documents as d
from tests.e2e import felix_dashboard
from tests.e2e.conftest import Site

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
ROOT = Path(__file__).parents[2]
SELECTOR = re.compile(r"\b((?:hostward|felix|process|python|up|kube)_?[a-z0-9_]*)(\{[^}]*\})?")
LABEL = re.compile(r'(\w+)(=~|=)"([^"]*)"')
ELSEWHERE = {"up", "kube_node_info"}  # Prometheus's own, and kube-state-metrics'
EMPTY = {"hostward_certificate_expiry_timestamp_seconds", "hostward_other_firewall"}  # where there is none
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| ([\w, ]*) ?\|", re.MULTILINE)


@pytest.fixture(scope="module")
def families(shared: Site) -> dict[str, Metric]:
    """All families by their name in the text, of an agent that has done some of everything."""
    shared.agent.wait_applied(shared.etcd.put(d.policy_key("more"), d.policy("more", 30, [d.to_ports("Deny", [9], "TCP")])))
    shared.reached()
    found: dict[str, Metric] = {}

    def has_counted() -> bool:
        found.clear()
        for family in text_string_to_metric_families(shared.agent.metrics()):
            found[f"{family.name}_total" if family.type == "counter" else family.name] = family
        return bool(found["hostward_policy_packets_total"].samples) if "hostward_policy_packets_total" in found else False

    shared.until("packets are counted", has_counted)
    return found


def documented() -> dict[str, tuple[str, set[str]]]:
    """Type and labels by name, as docs/metrics.md has them of the agent."""
    text = (ROOT / "docs/metrics.md").read_text(encoding="utf-8").replace("`hostward_controller_", "")
    return {name: (kind, set(re.findall(r"\w+", labels))) for name, kind, labels in ROW.findall(text)}


def series(families: dict[str, Metric]) -> Iterator[tuple[str, dict[str, str]]]:
    for family in families.values():
        for sample in family.samples:
            yield sample.name, sample.labels


def asked(expression: str) -> Iterator[tuple[str, dict[str, re.Pattern[str]]]]:
    """The series that an expression asks for: a name, and what labels must match."""
    for name, labels in SELECTOR.findall(expression):
        wanted = {key: re.compile(value if how == "=~" else re.escape(value)) for key, how, value in LABEL.findall(labels)}
        yield name, {key: value for key, value in wanted.items() if key not in ("job", "instance")}


def lacking(expressions: Iterator[str], families: dict[str, Metric]) -> list[str]:
    """The expressions of which something has no series."""
    live = list(series(families))
    return [
        expression
        for expression in expressions
        for name, wanted in asked(expression)
        if name not in ELSEWHERE | EMPTY
        and not any(
            name == has and all(pattern.fullmatch(labels.get(key, "")) for key, pattern in wanted.items())
            for has, labels in live
        )
    ]


def test_every_family_is_documented_with_its_type_and_labels(families: dict[str, Metric]) -> None:
    kinds = {"unknown": "untyped"}
    served = {name: kinds.get(family.type, family.type) for name, family in families.items()}
    listed = documented()
    assert served == {name: kind for name, (kind, _) in listed.items()}
    for name, family in families.items():
        labels = {label for sample in family.samples for label in sample.labels} - {"le", "quantile"}
        if family.samples:
            assert labels == listed[name][1], name
        else:
            assert name in EMPTY, f"{name} has no series"


def test_each_panel_of_our_dashboard_has_series(families: dict[str, Metric]) -> None:
    panels = json.loads((ROOT / "deploy/monitoring/dashboard.json").read_text(encoding="utf-8"))["panels"]
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    assert len(expressions) > 40
    assert all(list(asked(expression)) for expression in expressions)
    assert not lacking(iter(expressions), families)


def test_each_alert_has_series(families: dict[str, Metric]) -> None:
    groups = yaml.safe_load((ROOT / "deploy/monitoring/rules.yaml").read_text(encoding="utf-8"))["groups"]
    expressions = [rule["expr"] for group in groups for rule in group["rules"]]
    assert all(list(asked(expression)) for expression in expressions)
    not_yet = [e for e in lacking(iter(expressions), families) if "no-policy" not in e]  # no packet was dropped that way
    assert not not_yet


def test_each_panel_of_felix_s_dashboard_that_applies_has_series(families: dict[str, Metric]) -> None:
    for panel, expressions in felix_dashboard.PANELS.items():
        assert all(list(asked(expression)) for expression in expressions), panel
        assert not lacking(iter(expressions), families), panel
    assert not lacking(iter(felix_dashboard.OLDER.split()), families)
    for panel, (why, name) in felix_dashboard.LEFT_OUT.items():
        assert name not in dict(series(families)), f"{panel} is said not to apply: {why}"


def test_what_does_nothing_is_told(shared: Site, families: dict[str, Metric]) -> None:
    assert {sample.value for sample in families["hostward_unmatched_host_endpoints"].samples} == {0}
    assert next(s.value for s in families["hostward_end_to_end_seconds"].samples if s.name.endswith("_count")) >= 2
    document = d.endpoint("w9", "eth9")
    document["metadata"]["labels"] = {"who": "friend"}  # as the selector of a policy in force has it
    key = d.endpoint_key("w9")
    shared.etcd.put(d.set_key("friends"), d.network_set("friends", {"who": "friend"}, []))
    shared.agent.wait_applied(shared.etcd.put(key, document))
    for name in ("unmatched_host_endpoints", "endpoints_without_addresses", "empty_selectors"):
        shared.until(f"{name} is told", lambda name=name: shared.agent.metric(f"hostward_{name}") == 1)
    warning = "Warning:    host endpoint w9: governs no interface that this host has"
    shared.until("status names it", lambda: warning in shared.agent.command("status").stdout)
    shared.agent.wait_applied(shared.etcd.delete(key))
    shared.until("it is gone", lambda: shared.agent.metric("hostward_unmatched_host_endpoints") == 0)
    shared.until("status is quiet", lambda: warning not in shared.agent.command("status").stdout)


def test_felix_s_counters_count_what_was_done(families: dict[str, Metric]) -> None:
    """None of them stands at 0 on a host whose rules were written, changed and read."""
    moved = """
    felix_resyncs_started felix_calc_graph_updates_processed felix_calc_graph_output_events felix_int_dataplane_messages
    felix_iptables_lines_executed felix_iptables_restore_calls felix_iptables_save_calls felix_ipset_calls
    felix_ipset_lines_executed felix_int_dataplane_msg_batch_size felix_int_dataplane_iface_msg_batch_size
    felix_int_dataplane_addr_msg_batch_size felix_iptables_lock_acquire_secs felix_calc_graph_update_time_seconds
    felix_int_dataplane_apply_time_seconds felix_active_local_endpoints felix_active_local_policies felix_iptables_rules
    felix_active_local_selectors felix_cluster_num_policies felix_cluster_num_host_endpoints felix_resync_state
    felix_label_index_num_endpoints felix_label_index_num_active_selectors felix_ipsets_calico felix_iptables_chains
    """
    still = {name for name in moved.split() if not sum(sample.value for sample in families[name].samples if sample.value > 0)}
    assert not still
