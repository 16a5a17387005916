"""Metrics: names and units that operators and the contract rely on."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hostward.render.ruleset import TableId
from hostward.report.from_outside import Outside
from hostward.report.metrics import Metrics
from hostward.report.quantiles import Quantiles
from hostward.report.sizes import Activity, Cluster, SetsSize, Sizes, TableSize

FILTER4 = TableId(4, "filter")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


CALLS: dict[tuple[str, ...], int] = {
    ("read", "done"): 20,
    ("read", "failed"): 1,
    ("write", "done"): 4,
    ("write", "failed"): 2,
    ("rules", "4", "filter"): 12,
    ("sets", "done"): 8,
    ("sets", "failed"): 3,
    ("sets", "members"): 30,
    ("lock", "failed"): 5,
    ("lock", "retries"): 6,
}


@pytest.fixture
def metrics(clock: Clock) -> Metrics:
    return Metrics(
        version="9.9",
        node="w1",
        clock=clock,
        backend={"tables": "iptables-legacy", "datastore": "etcd"},
        outside=Outside(
            logs=lambda: (1, 2, 3),
            links=lambda: (1, 1),
            flows=lambda: (5, 6, 7),
            kernel=Counter(CALLS),
            certificates=lambda: {"etcd-client": 1.8e9},
        ),
    )


def scrape(metrics: Metrics) -> dict[str, float]:
    """Series as `name{label="value"}` to value."""
    found = {}
    for line in metrics.text().decode().splitlines():
        if not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            assert series not in found
            found[series] = float(value)
    return found


# Every non-Go, non-BPF name of the dashboards and checks that operators have (statements.md observability 5.1, 5.3; L-41).
FELIX_NAMES = """
felix_active_local_endpoints felix_active_local_policies felix_active_local_selectors felix_active_local_tags
felix_cluster_num_hosts felix_cluster_num_host_endpoints felix_cluster_num_workload_endpoints felix_cluster_num_policies
felix_cluster_num_profiles felix_cluster_num_tiers felix_calc_graph_output_events felix_resync_state felix_resyncs_started
felix_calc_graph_update_time_seconds_sum felix_calc_graph_update_time_seconds_count
felix_int_dataplane_failures felix_int_dataplane_apply_time_seconds_sum felix_int_dataplane_apply_time_seconds_count
felix_int_dataplane_msg_batch_size_sum felix_int_dataplane_iface_msg_batch_size_sum felix_int_dataplane_addr_msg_batch_size_sum
felix_int_dataplane_initial_resync_time_seconds felix_iptables_restore_calls felix_iptables_restore_errors
felix_iptables_save_calls felix_iptables_save_errors felix_iptables_lock_acquire_secs_sum felix_ipsets_total felix_ipset_calls
felix_ipset_errors felix_ipset_lines_executed felix_exec_time_micros_sum felix_logs_dropped felix_log_errors
"""


def test_contract_names_exist_from_the_first_scrape(metrics):
    found = scrape(metrics)
    assert found["hostward_applied_revision"] == 0
    assert found["hostward_desired_revision"] == 0
    assert found['hostward_repairs_total{ip_version="6",table="raw"}'] == 0
    assert found['hostward_build_info{python="' + __import__("platform").python_version() + '",version="9.9"}'] == 1
    assert found['felix_host{host="w1"}'] == 1
    for name in FELIX_NAMES.split():
        assert name in found
    assert "process_resident_memory_bytes" in found
    assert not [name for name in found if "_created" in name]
    assert not [
        name for name in found if name.startswith("felix_") and name.split("{")[0].endswith("_total") and "ipsets" not in name
    ]


def test_the_text_is_valid_and_every_family_says_what_it_is(metrics):
    metrics.received(1, {"HostEndpoint": 1})
    metrics.frozen({'odd"reason\n'})
    for family in text_string_to_metric_families(metrics.text().decode()):
        if family.samples:
            assert family.documentation
        assert family.type in ("gauge", "counter", "histogram", "summary", "unknown")


def test_revisions_are_exact_to_many_digits(metrics):
    metrics.received(123456789012345)
    metrics.applied(123456789012344, 0.2)
    found = scrape(metrics)
    assert found["hostward_desired_revision"] == 123456789012345
    assert found["hostward_applied_revision"] == 123456789012344


def test_applies_and_failures(metrics):
    metrics.applied(5, 3.0)
    metrics.applied(6, 0.004)
    metrics.applied(7)
    metrics.apply_failed(0.5)
    found = scrape(metrics)
    assert found["hostward_applied_revision"] == 7
    assert found["hostward_apply_seconds_count"] == 3
    assert found["hostward_apply_failures_total"] == found["felix_int_dataplane_failures"] == 1
    assert found["felix_int_dataplane_initial_resync_time_seconds"] == 3.0
    assert found["felix_int_dataplane_apply_time_seconds_count"] == 1
    assert found['felix_int_dataplane_apply_time_seconds{quantile="0.99"}'] == 0.004


def test_contact_age_is_computed_at_the_scrape(metrics, clock):
    clock.now += 7
    assert scrape(metrics)["hostward_datastore_contact_age_seconds"] == 7  # never contacted: since the start
    metrics.contact()
    clock.now += 2
    assert scrape(metrics)["hostward_datastore_contact_age_seconds"] == metrics.contact_age() == 2


def test_datastore_states(metrics):
    for state, number in (("resync", 2), ("in-sync", 3), ("lost", 1), ("resync", 2), ("resync", 2), ("in-sync", 3)):
        metrics.datastore(state)
        found = scrape(metrics)
        states = {name: value for name, value in found.items() if name.startswith("hostward_datastore_state")}
        assert [name for name, value in states.items() if value] == [f'hostward_datastore_state{{state="{state}"}}']
        assert found["felix_resync_state"] == number


def test_what_is_gone_goes_to_zero(metrics):
    metrics.set_aside({"GlobalNetworkPolicy": 2, "Tier": 1})
    metrics.set_aside({"Tier": 1})
    metrics.objects({"StagedNetworkPolicy": 2, "Tier": 1})
    metrics.objects({"Tier": 3})
    metrics.frozen({"not-ready"})
    metrics.frozen(())
    found = scrape(metrics)
    assert found['hostward_objects_set_aside{kind="GlobalNetworkPolicy"}'] == 0
    assert found['hostward_objects_set_aside{kind="Tier"}'] == 1
    assert found['hostward_objects{kind="StagedNetworkPolicy"}'] == 0
    assert found['hostward_objects{kind="Tier"}'] == 3
    assert found['hostward_frozen{reason="not-ready"}'] == 0


def test_sizes_are_the_same_under_both_names(metrics):
    activity = Activity(5, 2, 6, 7, {True: 3, False: 1}, empty_selectors=2, without_addresses=1)
    metrics.sizes(Sizes({FILTER4: TableSize(3, 40)}, {4: SetsSize(2, 10, 0.25), 6: SetsSize(1, 0)}, activity))
    metrics.cluster(Cluster(hosts=9, workload_endpoints=8, host_endpoints=2, network_sets=1))
    found = scrape(metrics)
    assert (
        found['hostward_rules{ip_version="4",table="filter"}']
        == found['felix_iptables_rules{ip_version="4",table="filter"}']
        == 40
    )
    assert found['hostward_chains{ip_version="4",table="filter"}'] == 3
    assert found['felix_ipsets_calico{ip_version="inet"}'] == found['hostward_sets{ip_version="4"}'] == 2
    assert found["felix_ipsets_total"] == 3
    assert found['hostward_set_members{ip_version="4"}'] == 10
    assert (
        found["felix_active_local_endpoints"],
        found["felix_active_local_policies"],
        found["felix_active_local_selectors"],
    ) == (5 + 2, 6, 7)
    assert found["hostward_active_endpoints"] == 5
    assert found["felix_cluster_num_hosts"] == 9
    assert found["felix_cluster_num_workload_endpoints"] == 8
    assert found["felix_label_index_num_endpoints"] == 11
    assert found['felix_label_index_num_active_selectors{optimized="true"}'] == 3
    assert found['hostward_fullest_set_ratio{ip_version="4"}'] == 0.25
    assert (found["hostward_empty_selectors"], found["hostward_endpoints_without_addresses"]) == (2, 1)


def test_workload_interfaces_by_what_becomes_of_them(metrics):
    assert scrape(metrics)['hostward_workload_interfaces{state="cut-off"}'] == 0
    metrics.workload_interfaces(active=3, isolated=1, cut_off=2)
    found = scrape(metrics)
    assert [found[f'hostward_workload_interfaces{{state="{state}"}}'] for state in ("active", "isolated", "cut-off")] == [
        3,
        1,
        2,
    ]


def test_all_the_other_calls(metrics):
    metrics.repaired(FILTER4)
    metrics.repaired_sets(6, 2)
    metrics.drift_checked(0.02, 1.5)
    metrics.lock_waited(0.2)
    metrics.arrived(0.7)
    metrics.exposed(2.5)
    metrics.exposed(-1)  # a clock that was set back
    metrics.unmatched(3)
    metrics.calculated(0.1)
    metrics.received(1, {"Tier": 3})
    metrics.felix.batch({"policies": 3, "sets": 0})
    metrics.felix.links(1, 2)
    found = scrape(metrics)
    for name, value in {
        'hostward_repairs_total{ip_version="4",table="filter"}': 1,
        'hostward_repairs_total{ip_version="6",table="sets"}': 2,
        "hostward_drift_check_interval_seconds": 1.5,
        "hostward_drift_check_seconds_sum": 0.02,
        "hostward_lock_wait_seconds_sum": 0.2,
        'felix_iptables_lock_retries{version="4"}': 6,
        "hostward_end_to_end_seconds_sum": 0.7,
        "hostward_exposure_seconds_total": 2.5,
        "hostward_unmatched_host_endpoints": 3,
        'hostward_kernel_errors_total{operation="lock"}': 5,
        'hostward_kernel_errors_total{operation="sets"}': 3,
        'hostward_certificate_expiry_timestamp_seconds{certificate="etcd-client"}': 1.8e9,
        'hostward_node_info{node="w1"}': 1,
        'hostward_backend_info{datastore="etcd",tables="iptables-legacy"}': 1,
        "hostward_link_resyncs_total": 1,
        "hostward_link_overruns_total": 1,
        "hostward_conntrack_entries_deleted_total": 5,
        "hostward_conntrack_failures_total": 6,
        "hostward_conntrack_addresses_pending": 7,
        'felix_calc_graph_updates_processed{type="Tier"}': 3,
        "felix_iptables_restore_calls": 6,
        "felix_iptables_restore_errors": 2,
        "felix_iptables_save_calls": 21,
        "felix_iptables_save_errors": 1,
        "felix_ipset_calls": 11,
        "felix_ipset_errors": 3,
        "felix_ipset_lines_executed": 30,
        'felix_iptables_lines_executed{ip_version="4",table="filter"}': 12,
        'felix_int_dataplane_messages{type="policies"}': 3,
        "felix_calc_graph_output_events": 3,
        "felix_int_dataplane_msg_batch_size_sum": 3,
        "felix_int_dataplane_iface_msg_batch_size_sum": 1,
        "felix_int_dataplane_addr_msg_batch_size_sum": 2,
        "hostward_logs_dropped_total": 1,
        "hostward_log_errors_total": 2,
        "hostward_logs_folded_total": 3,
        "felix_logs_dropped": 1,
    }.items():
        assert found[name] == pytest.approx(value), name


def test_felix_names_and_process_metrics_can_be_switched_off():
    found = scrape(Metrics(version="1", node="w1", felix=False, process=False))
    assert all(name.startswith("hostward_") for name in found)


def test_quantiles_slide(clock):
    summary = Quantiles(clock, window=10)
    for number in range(1, 101):
        summary.observe(number)
    assert summary.read() == (100, 5050, {0.5: 50, 0.9: 90, 0.99: 99})
    clock.now += 11
    count, total, quantiles = summary.read()
    assert (count, total) == (100, 5050)
    assert all(math.isnan(value) for value in quantiles.values())
    summary.observe(3)
    assert summary.read()[2] == {0.5: 3, 0.9: 3, 0.99: 3}
