"""Writes what is generated in deploy/monitoring: prometheusrule.yaml out of rules.yaml, and Grafana's dashboard.json.

Run it without arguments from the checkout, with the interpreter in .venv. A test compares what it makes with what is there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

MONITORING: Final = Path(__file__).parents[1] / "deploy/monitoring"
RULES: Final = "rules.yaml"
OPERATOR_RULES: Final = "prometheusrule.yaml"
DASHBOARD: Final = "dashboard.json"
OF: Final = 'job=~"$job",instance=~"$instance"'
DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT = 24, 8
Json = dict[str, Any]


class Panel(NamedTuple):
    """A graph. `queries`: legend and expression, where `@` stands for job and instance. `unit` is Grafana's word."""

    title: str
    unit: str
    description: str
    queries: tuple[tuple[str, str], ...]


def top(expression: str, by: str) -> str:
    """The series of the highest rate now."""
    return f"topk($top, sum by ({by}) (rate({expression}[$__rate_interval])))"


def quantile(of: str, share: float = 0.99) -> str:
    """Of a histogram, by instance."""
    return f"histogram_quantile({share}, sum by (instance, le) (rate(hostward_{of}_bucket@[$__rate_interval])))"


def named(name: str) -> tuple[str, str]:
    """A metric as it is, by instance."""
    return "{{instance}}", f"hostward_{name}@"


ROWS: Final[tuple[tuple[str, tuple[Panel, ...]], ...]] = (
    (
        "Is policy in force?",
        (
            Panel("Agents that answer", "none", "Targets of Prometheus.", (("up", "sum(up@)"), ("all", "count(up@)"))),
            Panel("Datastore contact age", "s", "Time since the datastore confirmed that nothing was missed.", (
                named("datastore_contact_age_seconds"),)),
            Panel("Revisions behind", "none", "Received changes that are not in the kernel yet.", (
                ("{{instance}}", "hostward_desired_revision@ - hostward_applied_revision@"),)),
            Panel("Applied revision", "none", "All hosts of one datastore should show the same line.", (
                named("applied_revision"),)),
            Panel("State of the connection", "none", "1 for the state that the connection to the datastore is in.", (
                ("{{state}}", "sum by (state) (hostward_datastore_state@)"),)),
            Panel("Frozen", "none", "Agents that deliberately follow no change, and why.", (
                ("{{instance}} {{reason}}", "hostward_frozen@ > 0"),)),
            Panel("Objects set aside", "none", "Stored objects that are not wholly understood.", (
                ("{{kind}}", "max by (kind) (hostward_objects_set_aside@)"),)),
            Panel("Endpoints and selectors that do nothing", "none", "What somebody wrote and probably meant otherwise.", (
                ("unmatched {{instance}}", "hostward_unmatched_host_endpoints@"),
                ("without address {{instance}}", "hostward_endpoints_without_addresses@"),
                ("empty selectors {{instance}}", "hostward_empty_selectors@"))),
        ),
    ),
    (
        "Traffic",
        (
            Panel("Allowed by policy", "pps", "Packets that a policy allowed: of new connections the first.", (
                ("{{policy}} {{direction}}", top('hostward_policy_packets_total@{action="allow"}', "policy, direction")),)),
            Panel("Denied by policy", "pps", "Packets that a policy denied.", (
                ("{{policy}} {{direction}}", top('hostward_policy_packets_total@{action="deny"}', "policy, direction")),)),
            Panel("Bytes by policy", "Bps", "Bytes of the packets that a policy decided about.", (
                ("{{policy}} {{action}}", top("hostward_policy_bytes_total@", "policy, action")),)),
            Panel("Dropped packets", "pps", "Packets that endpoints dropped, by reason.", (
                ("{{reason}}", top("hostward_dropped_packets_total@", "reason")),)),
            Panel("Dropped by interface", "pps", "The interfaces where most is dropped because no policy allows it.", (
                ("{{instance}} {{interface}} {{direction}}", top("hostward_dropped_packets_total@",
                                                                 "instance, interface, direction")),)),
            Panel("Failsafe ports", "pps", "New connections that came by a failsafe port, whatever policy says.", (
                ("{{direction}} {{protocol}}", top("hostward_failsafe_packets_total@", "direction, protocol")),)),
        ),
    ),
    (
        "Changes",
        (
            Panel("Arrival to kernel, p99", "s", "From the arrival of a change to the kernel holding it.", (
                ("{{instance}}", quantile("end_to_end_seconds")),)),
            Panel("Apply, p99", "s", "From taking a batch of changes to the kernel holding it.", (
                ("{{instance}}", quantile("apply_seconds")),)),
            Panel("Wait for the xtables lock, p99", "s", "Another program holds it.", (
                ("{{instance}}", quantile("lock_wait_seconds")),)),
            Panel("Applies", "ops", "Rounds that changed something.", (
                ("{{instance}}", "rate(hostward_apply_seconds_count@[$__rate_interval])"),)),
            Panel("Failures", "ops", "Applies that left something to be tried again, and what the kernel refused.", (
                ("{{instance}} applies", "rate(hostward_apply_failures_total@[$__rate_interval])"),
                ("{{instance}} {{operation}}", "rate(hostward_kernel_errors_total@[$__rate_interval])"))),
            Panel("Conntrack entries deleted", "ops", "Of workloads that are gone.", (
                ("{{instance}}", "rate(hostward_conntrack_entries_deleted_total@[$__rate_interval])"),
                ("{{instance}} failures", "rate(hostward_conntrack_failures_total@[$__rate_interval])"))),
        ),
    ),
    (
        "Tampering",
        (
            Panel("Repairs", "none", "Tables and sets that others changed and the agent put right.", (
                ("{{instance}} {{table}}", "sum by (instance, table) (increase(hostward_repairs_total@[5m])) > 0"),)),
            Panel("Exposure", "s", "Upper bound of the time that something stood changed.", (
                ("{{instance}}", "increase(hostward_exposure_seconds_total@[$__rate_interval])"),)),
            Panel("Time between checks", "s", "Longer on hosts with very large tables.", (
                named("drift_check_interval_seconds"),)),
            Panel("Check, p99", "s", "Time that one check for tampering takes.", (
                ("{{instance}}", quantile("drift_check_seconds")),)),
        ),
    ),
    (
        "Sizes",
        (
            Panel("Rules", "none", "Own rules in the kernel.", (("{{instance}}", "sum by (instance) (hostward_rules@)"),)),
            Panel("Sets and members", "none", "Own kernel sets.", (
                ("{{instance}} sets", "sum by (instance) (hostward_sets@)"),
                ("{{instance}} members", "sum by (instance) (hostward_set_members@)"))),
            Panel("Fullest set", "percentunit", "Members of the fullest set, as a share of the most that it can have.", (
                ("{{instance}} v{{ip_version}}", "hostward_fullest_set_ratio@"),)),
            Panel("Endpoints and policies", "none", "What is in force.", (
                ("{{instance}} host endpoints", "hostward_active_endpoints@"),
                ("{{instance}} policies", "hostward_active_policies@"))),
            Panel("Workload interfaces", "none", "Judged by an endpoint, or cut off.", (
                ("{{state}}", "sum by (state) (hostward_workload_interfaces@)"),)),
            Panel("Certificates", "dtdurations", "Time until a certificate ends.", (
                ("{{instance}} {{certificate}}", "hostward_certificate_expiry_timestamp_seconds@ - time()"),)),
        ),
    ),
    (
        "Process",
        (
            Panel("CPU", "percentunit", "Share of one core.", (
                ("{{instance}}", "rate(process_cpu_seconds_total@[$__rate_interval])"),)),
            Panel("Resident memory", "bytes", "Of the agent.", (("{{instance}}", "process_resident_memory_bytes@"),)),
            Panel("Open files", "none", "A line that only climbs is a leak.", (("{{instance}}", "process_open_fds@"),)),
            Panel("Restarts", "none", "In an hour.", (("{{instance}}", "changes(process_start_time_seconds@[1h])"),)),
            Panel("Log lines left out", "ops", "They repeat, or whoever reads the log is too slow.", (
                ("{{instance}} no room", "rate(hostward_logs_dropped_total@[$__rate_interval])"),
                ("{{instance}} not written", "rate(hostward_log_errors_total@[$__rate_interval])"),
                ("{{instance}} repeats", "rate(hostward_logs_folded_total@[$__rate_interval])"))),
            Panel("Versions", "none", "Agents by version.", (("{{version}}", "count by (version) (hostward_build_info@)"),)),
        ),
    ),
)  # fmt: skip # a table


def _graph(panel: Panel, number: int, x: int, y: int, width: int) -> Json:
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": width, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 5}}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": DATASOURCE,
                "expr": re.sub(r"@(?:\{(.*?)\})?", lambda more: f"{{{OF}{',' + more[1] if more[1] else ''}}}", expression),
                "legendFormat": legend,
                "range": True,
            }
            for at, (legend, expression) in enumerate(panel.queries)
        ],
    }


def _panels() -> Iterator[Json]:
    number, y = 1, 0
    for title, panels in ROWS:
        place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        number, y = number + 1, y + 1
        in_a_row = 4 if len(panels) % 4 == 0 else 3
        width = WIDTH // in_a_row
        for at, panel in enumerate(panels):
            yield _graph(panel, number, at % in_a_row * width, y + at // in_a_row * HEIGHT, width)
            number += 1
        y += -(-len(panels) // in_a_row) * HEIGHT


def _variable(name: str, label: str, query: str) -> Json:
    asked = f"label_values({query}, {name})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": asked, "refId": name},
        "definition": asked,
        "includeAll": True,
        "multi": True,
        "allValue": ".+",
        "current": {"text": ["All"], "value": ["$__all"]},
        "refresh": 2,
        "sort": 1,
        "options": [],
    }


def dashboard() -> Json:
    """The dashboard as Grafana imports or provisions it."""
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1,
              "current": {}, "options": []}  # fmt: skip # a line
    tops = ["5", "10", "20", "50"]
    options = [{"text": value, "value": value, "selected": value == "10"} for value in tops]
    limit = {"name": "top", "label": "Top", "type": "custom", "query": ",".join(tops), "options": options,
             "current": {"text": "10", "value": "10"}}  # fmt: skip # a line
    variables = [
        source,
        _variable("job", "Job", "hostward_build_info"),
        _variable("instance", "Instance", 'hostward_build_info{job=~"$job"}'),
        limit,
    ]
    return {
        "uid": "hostward-agent",
        "title": "Hostward agent",
        "description": "What the agents of all hosts, or of some, enforce, and whether it is what is stored.",
        "tags": ["hostward", "firewall"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": variables},
        "panels": list(_panels()),
    }


def operator_rules(rules: str) -> str:
    """The rules as a PrometheusRule."""
    whole = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "hostward-agent",
            "namespace": "kube-system",
            "labels": {"app.kubernetes.io/name": "hostward-agent"},
        },
        "spec": yaml.safe_load(rules),
    }
    head = "# Written by scripts/monitoring.py from rules.yaml, for the Prometheus operator.\n"
    return head + yaml.safe_dump(whole, sort_keys=False, width=128, allow_unicode=True)


def generated() -> dict[str, str]:
    """The generated files by name."""
    return {
        OPERATOR_RULES: operator_rules((MONITORING / RULES).read_text(encoding="utf-8")),
        DASHBOARD: json.dumps(dashboard(), indent=2) + "\n",
    }


if __name__ == "__main__":
    for name, text in generated().items():
        (MONITORING / name).write_text(text, encoding="utf-8")
