"""What Felix's public Grafana dashboard asks Prometheus for, panel by panel; what doesn't apply to Hostward, with why."""

from __future__ import annotations

from typing import Final

GO, EBPF, FLOW_LOGS = "the Go runtime's", "eBPF is another dataplane", "Hostward has no flow logs"

PANELS: Final = {
    "Nodes in datamodel": ("max(felix_cluster_num_hosts)",),
    "Number of policies/profiles/tiers": (
        "max(felix_cluster_num_policies)",
        "max(felix_cluster_num_profiles)",
        "max(felix_cluster_num_tiers)",
    ),
    "Endpoints in datamodel": ("max(felix_cluster_num_workload_endpoints)", "max(felix_cluster_num_host_endpoints)"),
    "Restarts/hr": ("changes(process_start_time_seconds[1h]) > 0",),
    "Datastore resyncs/hr": ("changes(felix_resyncs_started[1h]) > 0",),
    "CPU usage": ("rate(process_cpu_seconds_total[1m])",),
    "Open file descriptors": ("process_open_fds",),
    "Process memory (RSS)": ("process_resident_memory_bytes",),
    "Active local endpoints": ("felix_active_local_endpoints",),
    "Active local policies": ("felix_active_local_policies",),
    "Active local selectors": ("felix_active_local_selectors",),
    "Calculation graph load": ("rate(felix_calc_graph_update_time_seconds_sum[1m])",),
    "Calculation graph updates/s": ("rate(felix_calc_graph_update_time_seconds_count[1m])",),
    "99%ile calculation update time": ('felix_calc_graph_update_time_seconds{quantile="0.99"}',),
    "Dataplane update load": ("rate(felix_int_dataplane_apply_time_seconds_sum[1m])",),
    "Dataplane operations/min": ("60 * rate(felix_int_dataplane_apply_time_seconds_count[1m])",),
    "99%ile dataplane update time": ('felix_int_dataplane_apply_time_seconds{quantile="0.99"}',),
    "Dataplane subprocess errors": (
        "rate(felix_ipset_errors[1m]) + rate(felix_iptables_restore_errors[1m]) + rate(felix_iptables_save_errors[1m])",
    ),
    "Iptables rules": ("sum by (instance) (felix_iptables_rules)",),
    "IP sets": ("felix_ipsets_calico",),
}
LEFT_OUT: Final = {
    "Runtime GC rate/min": (GO, "go_gc_duration_seconds_count"),
    "Runtime GC target heap size": (GO, "go_memstats_next_gc_bytes"),
    "Runtime GC target heap size (average)": (GO, "go_memstats_next_gc_bytes"),
    "Events/s": (EBPF, "felix_bpf_events"),
    "Lost events": (EBPF, "felix_bpf_events"),
    "Conntrack table entries": (EBPF, "felix_bpf_conntrack_used"),
    "Conntrack sweep duration": (EBPF, "felix_bpf_conntrack_sweep_duration"),
    "NFLOG events/s": (FLOW_LOGS, "felix_nflog_logs_received"),
    "NFLOG buffer overruns": (FLOW_LOGS, "felix_nflog_buffer_overruns"),
    "NFLOG backlog size": (FLOW_LOGS, "felix_nflog_aggregates_created"),
    "NFLOG flush wait time": (FLOW_LOGS, "felix_nflog_block_time_seconds"),
    "Flow logs collector conntrack load": (FLOW_LOGS, "felix_collector_conntrack_processing_latency_seconds_sum"),
    "Cached flows": (FLOW_LOGS, "felix_collector_epstats"),
}
OLDER: Final = """
felix_active_local_endpoints felix_active_local_policies felix_active_local_selectors felix_active_local_tags
felix_cluster_num_host_endpoints felix_cluster_num_hosts felix_cluster_num_workload_endpoints felix_ipset_calls
felix_ipset_errors felix_ipsets_calico felix_ipsets_total felix_iptables_chains felix_iptables_restore_calls
felix_iptables_restore_errors felix_iptables_rules felix_iptables_save_calls felix_iptables_save_errors
felix_int_dataplane_failures felix_resync_state felix_iptables_lock_acquire_secs_count felix_log_errors
felix_exec_time_micros_count
"""
"""What dashboards of Felix 2.6, and agents of monitoring services, read."""
