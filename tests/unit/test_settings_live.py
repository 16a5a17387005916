"""Each setting that the datastore may change is either followed while the agent runs, or makes it begin anew."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from hostward.engine.loop import scope_of
from hostward.engine.restarts import AT_START
from hostward.model.settings import BUILT_IN, SETTINGS, Settings
from hostward.render.options import options
from hostward.report.endpoints import Servers

FOLLOWED = {
    "log_severity_screen", "log_format",  # Teller.settings
    "drift_check_interval", "ipsets_refresh_interval", "iptables_refresh_interval",  # Inspector.follow
    "policy_counters_enabled",  # Counting.follow
}  # fmt: skip # with who follows them, as their tests show
OTHER: dict[str, Any] = {
    "host_forward_policy": "ApplyOnForward",
    "iptables_filter_allow_action": "Return",
    "iptables_mangle_allow_action": "Return",
    "iptables_filter_deny_action": "Reject",
    "default_endpoint_to_host_action": "Accept",
    "workload_source_spoofing": "Any",
    "cut_open_connections": "Enabled",
    "mark_mask": 0x7E000000,
    "log_action_rate_limit": "7/second",
    "failsafe_inbound_host_ports": (),
    "failsafe_outbound_host_ports": (),
    "interface_prefix": ("tap",),
    "interface_exclude": ("dummy0",),
}


def shape(settings: Settings) -> tuple[object, ...]:
    return options(settings, ()), scope_of(settings)


def both(attribute: str) -> tuple[Settings, Settings]:
    """Settings, and others that differ in this one."""
    value = getattr(BUILT_IN, attribute)
    if attribute in OTHER:
        other = OTHER[attribute]
    else:
        other = not value if isinstance(value, bool) else value + 1 if isinstance(value, int | float) else f"{value}x"
    base = replace(BUILT_IN, log_action_rate_limit="5/second") if attribute == "log_action_rate_limit_burst" else BUILT_IN
    return base, replace(base, **{attribute: other})


@pytest.mark.parametrize("setting", [one for one in SETTINGS.values() if not one.local], ids=lambda one: one.name)
def test_a_change_in_the_datastore_takes_effect(setting: Any) -> None:
    name = setting.attribute
    if name in AT_START or name in FOLLOWED or name.startswith(Servers.PREFIXES) or name == "chain_insert_mode":
        return  # the last one has one value
    one, other = both(name)
    assert shape(one) != shape(other), f"{name}: mark it at_start, or follow it and say so here"
