"""What a FelixConfiguration may set: Hostward's own settings by their one name, and Felix's that have no effect here.

A misspelt setting is refused here because nobody would miss it on the hosts (D13). Pure functions; any thread.
"""

from __future__ import annotations

from typing import Any, Final

from hostward.convert.checks import Report, suggestion, under
from hostward.model.felix_names import why_ignored
from hostward.model.fields import show
from hostward.model.settings import SETTINGS
from hostward.model.value_errors import BadValueError, UnsupportedValueError

_FLAT: Final = {setting.name.lower(): setting for setting in SETTINGS.values()}

_FELIX_STORES: Final = frozenset(("iptableslockfilepath",))
"""Local here, but Felix has it in the datastore: it may stay there, and the agent says that it has no effect."""


def felix_configuration(value: Any, path: str, report: Report) -> None:
    """The spec: every name is known, and every value of ours can be read."""
    if not isinstance(value, dict):
        report(path, f"expected a mapping, not {show(value)}")
        return
    for name, raw in value.items():
        here = under(path, str(name))
        flat = name.lower() if isinstance(name, str) else ""
        setting = _FLAT.get(flat)
        if setting is None:
            if why_ignored(flat) is None:
                report(here, f"unknown setting{suggestion(name, SETTINGS) or '; docs/settings.md lists them'}")
        elif setting.local and flat not in _FELIX_STORES:
            report(
                here, f"{setting.name} is local to each host: set it in /etc/hostward/agent.toml or as {setting.environment}"
            )
        elif raw is not None:
            _judge(setting.type.read, raw, here, report)


def _judge(read: Any, raw: object, path: str, report: Report) -> None:
    try:
        read(raw)
    except UnsupportedValueError:
        # Felix accepts it, and the agent says in a notice what it does instead.
        return
    except BadValueError as error:
        report(path, str(error))
