"""The table of settings for people, as Markdown: `docs/settings.md` is this text, and a test holds them together. Pure."""

from __future__ import annotations

from typing import Final

from hostward.model.settings import BUILT_IN, SETTINGS, show

_HEAD: Final = """\
# Settings

Every setting has one name, FelixConfiguration's. A value comes from the strongest source that has a usable one:

1. the environment variable `HOSTWARD_<SNAKE_CASE>` (`healthPort` is `HOSTWARD_HEALTH_PORT`);
2. the environment variable `FELIX_<FLATNAME>`, for those who migrate (`FELIX_HEALTHPORT`; `FELIX_FELIXHOSTNAME` is `nodeName`);
3. `/etc/hostward/agent.toml` (`healthPort = 9099`);
4. the FelixConfiguration `node.<node name>` in the datastore;
5. the FelixConfiguration `default` in the datastore;
6. built in.

`hostward agent --show-config` prints each effective value with its source. As the agent's unit does, it adds the variables of
`/etc/hostward/agent.env` to its environment.

An empty value counts as none. A bad or unknown value in the environment or the file is an error and the agent doesn't start
with it; in the datastore it is reported and the next source is used. Names that only Felix knows are reported and ignored.
Lists are comma separated, or lists in TOML and JSON; `none` is an empty one. Durations are `90s`, `1m30s`, `500ms`, or plain
seconds. Words are taken in any case. Settings marked *local* can't come from the datastore.

What changes in a FelixConfiguration takes effect at once, while the agent runs. For the few settings marked *begins anew* the
agent replaces itself by a new process, as soon as the change has stood for a moment: with the same process id, so that neither
systemd nor Kubernetes notices, with every rule in place, and at most once in ten seconds. A changed environment or file takes
effect when somebody restarts the agent.

The connection to the datastore is no setting: see `HOSTWARD_DATASTORE` and the `ETCD_` variables.

| name | default | values | meaning |
|---|---|---|---|
"""
_DEFAULTS: Final = {"nodeName": "the host's name"}


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def markdown() -> str:
    """The whole of `docs/settings.md`."""
    rows = []
    for name, setting in SETTINGS.items():
        default = show(BUILT_IN, name)
        shown = _DEFAULTS.get(name) or (f"`{default.replace(',', ', ')}`" if default else "none")
        mark = " *Local.*" if setting.local else " *Begins anew.*" if setting.at_start else ""
        rows.append(f"| `{name}` | {_cell(shown)} | {_cell(setting.type.form)} | {_cell(setting.meaning)}{mark} |\n")
    return _HEAD + "".join(rows)
