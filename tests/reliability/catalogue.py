"""Every scenario of the catalogue: what happens, the gate, and the tests that hold it. docs/reliability.md is made of it.

A gate says what the full form of the tests asserts. `away` names what part of a scenario no test covers, and why.
"""

from __future__ import annotations

from typing import NamedTuple


class Scenario(NamedTuple):
    """One row. `tests`: "file::function", from `tests/` on."""

    id: str
    what: str
    gate: str
    tests: tuple[str, ...]
    away: str = ""


AWAY = "reliability/test_store_away.py::"
BAD = "reliability/test_store_bad.py::"
LOST = "e2e/test_etcd_lost.py::"
FEED = "datastore/test_etcd_feed.py::"
CATALOGUE = (
    Scenario(
        "R1",
        "etcd is killed for 10 minutes",
        "rules byte for byte the same, 0 leaked, 0 lost, below 5 % of a core, told within 10 s, back within 5 s",
        (AWAY + "test_r1_etcd_is_killed",),
        "1,000 datagrams a second of each class around loss and return, 100 between",
    ),
    Scenario(
        "R2",
        "etcd is killed and restarted 100 times, under writes",
        "what is in the kernel at the end is what a fresh agent makes of the store; nothing was repaired",
        (LOST + "test_restarts_under_writes", FEED + "test_three_kills_under_writes"),
    ),
    Scenario(
        "R3",
        "of 3 servers the leader moves every 5 s for 2 minutes, 20 writes a second",
        "each write adds its member once, 0 leaked, 0 lost, p99 from write to applied below 2 s",
        (BAD + "test_r3_the_leader_moves", FEED + "test_a_leader_that_dies"),
    ),
    Scenario(
        "R4",
        "history is compacted past what the agent knows",
        "everything is read again, what was deleted meanwhile goes, what is there is never gone: 0 leaked, 0 lost",
        (AWAY + "test_r4_history_is_compacted_while_the_agent_is_away", FEED + "test_a_compaction_that_only_the_watch_sees"),
    ),
    Scenario(
        "R5",
        "a black hole between agent and etcd, no connection breaks",
        "noticed within 30 s, the freshness metric tells, back within 10 s, below 5 % of a core, 0 leaked, 0 lost",
        (AWAY + "test_r5_a_black_hole",),
    ),
    Scenario(
        "R6",
        "etcd is frozen for 2 minutes, its connections open",
        "as R5",
        (AWAY + "test_r6_a_frozen_server", FEED + "test_a_frozen_server_is_noticed"),
    ),
    Scenario(
        "R7",
        "half a second each way to etcd, 5 % of the data stall for 1.5 s more",
        "p99 from write to applied below 5 s, lost once at most, below 20 % of a core, 0 leaked, 0 lost",
        (BAD + "test_r7_a_slow_link",),
        "a proxy makes the delays: kernels without sch_netem are common, this one included",
    ),
    Scenario(
        "R8",
        "a server of another authority, an expired server, a revoked client, a user with another password",
        "told in words within 5 s, rules byte for byte the same, no secret in log, metrics, status, command line",
        (
            BAD + "test_r8_certificates_that_are_wrong",
            BAD + "test_r8_a_user_that_is_shut_out",
            "datastore/test_etcd_security.py::test_a_wrong_authority_is_named",
        ),
    ),
    Scenario(
        "C1",
        "100,000 stored values broken in every way",
        "no exception; broken objects change nothing that others do, open nothing, and are told with their keys",
        (
            "reliability/test_corrupted.py::test_c1_any_damage_is_a_value",
            "reliability/test_corrupted.py::test_c1_damage_stays_where_it_is",
            "unit/test_decode_properties.py::test_damage_allows_nothing_and_denies_nothing_less",
            "e2e/test_bad_input.py::test_values_that_a_fresh_agent_finds",
        ),
    ),
    Scenario(
        "L1",
        "another program holds the xtables lock for 60 s",
        "alive all the time, says who holds it, no more threads, applied within 2 s after release, 0 leaked, 0 lost",
        ("reliability/test_lock.py::test_l1_the_lock_is_held",),
    ),
    Scenario(
        "K1",
        "the agent is killed 1,000 times, some of them in the middle of a change, while policies change by all means",
        "0 leaked, 0 lost at 1,000 datagrams a second of each class, the next start converges within 3 s (median)",
        (
            "e2e/test_nothing_leaks.py::test_two_hundred_changes_and_twenty_kills",
            "e2e/test_nothing_leaks.py::test_four_hundred_changes_and_a_hundred_kills",
        ),
        "legacy iptables alone, as there is no other backend yet",
    ),
    Scenario(
        "K2",
        "iptables-restore is killed 1,000 times",
        "0 leaked, 0 lost, nothing is left of what was interrupted",
        ("reliability/test_kills.py::test_k2_tools_are_killed",),
        "the agent starts it only for very large writes: the test makes it do so always. Sets go by netlink, no tool",
    ),
    Scenario(
        "K3",
        "the host comes up with rules of an older policy set, etcd is away at first",
        "before the store is read nothing changes; after that nothing of the old passes; 0 leaked, 0 lost",
        (
            "reliability/test_kills.py::test_k3_rules_of_another_time",
            "e2e/test_boot.py::test_the_last_rules_hold_from_the_first_packet_on",
        ),
    ),
    Scenario(
        "B1",
        "the host boots: no network, no agent, no etcd, and then one after the other",
        "before network-pre.target, and from the first packet on what must not pass doesn't",
        (
            "e2e/test_boot.py::test_the_last_rules_hold_from_the_first_packet_on",
            "e2e/test_boot.py::test_without_them_the_named_interfaces_are_closed",
            "e2e/test_systemd.py::test_a_host_boots_and_boots_again_without_its_datastore",
        ),
        "by packets without systemd, and with a real one that says in what order things came",
    ),
    Scenario(
        "U1",
        "rules, sets and memory of another version are there when the agent starts",
        "0 leaked, 0 lost, in the end the same rules as ever and not one of the other version's chains and sets",
        (
            "reliability/test_upgrade.py::test_u1_rules_of_another_version",
            "reliability/test_upgrade.py::test_u1_memory_of_another_version",
            "e2e/test_boot.py::test_rules_of_a_version_that_names_chains_otherwise_are_taken_over_without_a_gap",
        ),
        "made from this version's, by other names and rules: no other version is in a checkout",
    ),
    Scenario(
        "F1",
        "more than 100,000 packets a second at a Log rule",
        "no more logged than logActionRateLimit lets, every drop counted, below 30 % of a core, a change within 2 s, 0 lost",
        ("reliability/test_flood.py::test_f1_a_flood_at_a_log_rule",),
        "what is logged is the packet counter of the LOG rule: a namespace's kernel log goes nowhere",
    ),
    Scenario(
        "F2",
        "nobody reads stderr",
        "changes go on, lines that find no room are dropped and counted",
        (
            "reliability/test_logs.py::test_f2_a_stderr_that_nobody_reads",
            "reliability/test_logs.py::test_f2_a_stderr_whose_reader_has_gone",
            "reliability/test_logs.py::test_f2_no_stdin_stdout_and_stderr_at_all",
        ),
    ),
    Scenario(
        "P1",
        "1,000 idle connections, slow headers, huge headers, many requests at /metrics",
        "threads and files bounded, changes as fast as ever",
        ("reliability/test_servers.py::test_p1_clients_that_mean_no_good",),
    ),
    Scenario(
        "P2",
        "TLS and clients' certificates at /metrics",
        "no plain HTTP where TLS is set, a wrong client is refused, certificates change without a restart",
        ("reliability/test_servers.py::test_p2_only_whom_the_authority_vouches_for",),
    ),
    Scenario(
        "P3",
        "labels of metrics that others choose",
        "bounded series, a scrape stays small and quick",
        ("reliability/test_servers.py::test_p3_names_that_others_choose_make_no_endless_labels",),
    ),
    Scenario(
        "Q1",
        "no root, two capabilities",
        "enforces as ever",
        (
            "kernel/test_privileges.py::test_two_capabilities_are_enough",
            "unit/test_units.py::test_who_reads_the_state_is_no_root_and_has_two_capabilities",
            "e2e/test_sandbox.py::test_the_agent_works_in_it",
        ),
    ),
    Scenario(
        "Q2",
        "the sandbox of the systemd unit",
        "`systemd-analyze security` scores 2.0 at most",
        ("unit/test_units.py::test_the_agent_is_exposed_little", "e2e/test_sandbox.py::test_the_sandbox_is_the_units"),
    ),
    Scenario(
        "Q3",
        "a container whose root is read-only",
        "enforces, and writes only where the manifest lets it",
        ("image/test_pod.py::test_it_enforces_without_root_and_writes_only_where_the_manifest_lets_it",),
    ),
    Scenario(
        "Q4",
        "names, labels, annotations that would be commands",
        "the kernel holds rule for rule and member for member what was meant, by both ways of writing",
        (
            "reliability/test_injection.py::test_q4_injection",
            "kernel/test_odd_names.py::test_an_interface_of_any_name_is_guarded",
        ),
    ),
    Scenario(
        "Q5",
        "passwords and keys",
        "none in log, metrics, status, command line or tracebacks",
        ("reliability/test_logs.py::test_q5_no_secret_is_told_anywhere",),
    ),
)
