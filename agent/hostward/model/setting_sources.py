"""Where settings come from, and which source wins (`statements.md` C-1..C-6 with the sources of the contract).

Strongest first: HOSTWARD_ in the environment, FELIX_ in the environment, the agent's file, FelixConfiguration `node.<name>`,
FelixConfiguration `default`, built in. A bad local value is an error, a bad stored one a notice; either way the next weaker
source is used, so a value in the datastore can neither stop the agent nor open a host. Pure; any thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from hostward.model.felix_names import why_ignored
from hostward.model.settings import BUILT_IN, SETTINGS, Setting, Settings, show
from hostward.model.value_errors import BadValueError, UnsupportedValueError, shown

CUT_NEEDS: Final = 7
FILE: Final = "/etc/hostward/agent.toml"
BUILT_IN_SOURCE: Final = "built in"
NON_SETTINGS: Final = frozenset({"HOSTWARD_DATASTORE"})
_BY_ENVIRONMENT: Final = {s.environment: s for s in SETTINGS.values()}
_BY_FLAT: Final = {flat: s for s in SETTINGS.values() for flat in (s.name.upper(), *s.felix)}
_LISTED: Final = "; docs/settings.md lists them"
_LINK: Final = re.compile(
    r"(HOSTWARD|FELIX)_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_LINK_VALUE: Final = re.compile(r"(tcp|udp|sctp)://")


class Sourced(Struct, frozen=True):
    """A setting's effective value as a text, and the source that it comes from."""

    value: str
    source: str


class Resolved(Struct, frozen=True):
    """The effective settings; per setting name its text and source; what to tell the operator.

    `errors` are for what is set on this host (the agent refuses to start with them), `notices` for everything else. Both
    are whole sentences that name the source and the setting.
    """

    settings: Settings
    sources: Mapping[str, Sourced]
    notices: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


class _Given(Struct, frozen=True):
    setting: Setting
    raw: object
    source: str
    local: bool


class _Findings(Struct):
    notices: list[str]
    errors: list[str]


def _is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes made this variable for a Service whose name begins with `hostward`.

    A Service `hostward-health` makes HOSTWARD_HEALTH_PORT, a setting's name; its value is a URL, which no setting's is.
    """
    return bool(_LINK.fullmatch(name) and name not in _BY_ENVIRONMENT) or (
        name.endswith("_PORT") and _LINK_VALUE.match(value) is not None
    )


def _suggestion(name: str, known: Mapping[str, object], prefix: str = "") -> str:
    """What was probably meant. `prefix` is what all have in common: it makes none of them more alike."""
    close = get_close_matches(name.removeprefix(prefix), [one.removeprefix(prefix) for one in known], 1)
    return f"; did you mean {prefix}{close[0]}?" if close else ""


def _own_environment(environ: Mapping[str, str], findings: _Findings) -> Iterator[_Given]:
    for name in sorted(environ):
        value = environ[name]
        if not name.startswith("HOSTWARD_") or name in NON_SETTINGS or _is_service_link(name, value):
            continue
        setting = _BY_ENVIRONMENT.get(name)
        if setting is None:
            hint = _suggestion(name, _BY_ENVIRONMENT, "HOSTWARD_") or _LISTED
            findings.errors.append(f"environment: {name} is no setting of Hostward{hint}")
        else:
            yield _Given(setting, value, name, local=True)


def _felix_environment(environ: Mapping[str, str], findings: _Findings) -> Iterator[_Given]:
    for name in sorted(environ):
        upper = name.upper()
        if not upper.startswith("FELIX_") or _is_service_link(name, environ[name]):
            continue
        flat, value = upper.removeprefix("FELIX_"), environ[name]
        setting = _BY_FLAT.get(flat)
        if setting is None:
            findings.notices.append(_unused(f"environment: {name}", flat.lower()))
            continue
        # Plain numbers are seconds, or milliseconds where the name says so (C-5).
        millis = flat.endswith("MILLIS") and value.strip().isdigit()
        yield _Given(setting, f"{value.strip()}ms" if millis else value, name, local=True)


def _unused(where: str, flat: str) -> str:
    why = why_ignored(flat)
    return f"{where} is ignored: {why}" if why else f"{where} is no setting of Hostward; it is ignored"


def _from_file(values: Mapping[str, Any], source: str, findings: _Findings) -> Iterator[_Given]:
    for name, raw in values.items():
        setting = SETTINGS.get(name)
        if setting is None:
            findings.errors.append(f"{source}: {shown(name)} is no setting of Hostward{_suggestion(name, SETTINGS) or _LISTED}")
        else:
            yield _Given(setting, raw, source, local=True)


def _from_datastore(values: Mapping[str, Any] | None, source: str, findings: _Findings) -> Iterator[_Given]:
    for name, raw in (values or {}).items():
        setting = SETTINGS.get(name)
        if setting is None:
            findings.notices.append(_unused(f"{source}: {shown(name)}", str(name).lower()))
        elif setting.local:
            findings.notices.append(f"{source}: {name} is ignored: it can only be set on the host itself")
        else:
            yield _Given(setting, raw, source, local=False)


def _read(given: _Given, findings: _Findings) -> Any:
    """The value, or None when it isn't usable, which is then reported."""
    where = given.source if given.source in _BY_ENVIRONMENT else f"{given.source}: {given.setting.name}"
    try:
        return given.setting.type.read(given.raw)
    except UnsupportedValueError as error:
        findings.notices.append(f"{where}: {error}")
    except BadValueError as error:
        if given.local:
            findings.errors.append(f"{where}: {error}")
        else:
            findings.notices.append(f"{where}: {error}; it is ignored")
    return None


def _is_empty(raw: object) -> bool:
    return raw is None or (isinstance(raw, str) and not raw.strip())  # C-2; JSON's null is absence


def resolve(
    environ: Mapping[str, str],
    file: Mapping[str, Any],
    node_config: Mapping[str, Any] | None,
    default_config: Mapping[str, Any] | None,
    hostname: str,
    *,
    file_source: str = FILE,
) -> Resolved:
    """The effective settings from all sources; never raises.

    `environ` and `file` are what os.environ and tomllib give; the two others are the `spec` of FelixConfigurations
    `node.<name>` and `default`, None where there is none (call first without them: `nodeName` is local). `hostname` is the
    kernel's.
    """
    findings = _Findings([], [])
    values: dict[str, Any] = {}
    used: dict[str, _Given] = {}

    def take(layer: Iterable[_Given]) -> None:
        for given in layer:
            if _is_empty(given.raw):
                continue
            value = _read(given, findings)
            if value is not None and given.setting.name not in used:
                values[given.setting.attribute], used[given.setting.name] = value, given

    take(_own_environment(environ, findings))
    take(_felix_environment(environ, findings))
    take(_from_file(file, file_source, findings))
    for raw, source in ((environ.get("NODENAME", ""), "NODENAME"), (hostname.lower(), "hostname")):
        if "nodeName" not in used:
            take([_Given(SETTINGS["nodeName"], raw, source, local=True)])
    take(_from_datastore(node_config, f"FelixConfiguration node.{values.get('node_name', '')}", findings))
    take(_from_datastore(default_config, "FelixConfiguration default", findings))
    settings = replace(BUILT_IN, **values)
    _judge_whole(settings, used, findings)
    return Resolved(
        settings,
        {name: Sourced(show(settings, name), used[name].source if name in used else BUILT_IN_SOURCE) for name in SETTINGS},
        tuple(findings.notices),
        tuple(findings.errors),
    )


def _judge_whole(settings: Settings, used: Mapping[str, _Given], findings: _Findings) -> None:
    """What is wrong only between settings."""
    tls = [
        name for name in ("prometheusMetricsCAFile", "prometheusMetricsCertFile", "prometheusMetricsKeyFile") if name in used
    ]
    cert, key = settings.prometheus_metrics_cert_file, settings.prometheus_metrics_key_file
    if bool(cert) != bool(key) or (settings.prometheus_metrics_ca_file and not cert):
        text = f"{', '.join(tls)}: TLS needs both prometheusMetricsCertFile and prometheusMetricsKeyFile; no metrics are served"
        (findings.errors if any(used[name].local for name in tls) else findings.notices).append(text)
    if settings.mark_mask & 0x001F0000:
        findings.notices.append(f"markMask {settings.mark_mask:#010x} holds bits of 0x001f0000, which Felix uses by default")
    if settings.cut_open_connections == "Enabled" and settings.mark_mask.bit_count() < CUT_NEEDS:
        findings.notices.append(
            f"cutOpenConnections needs {CUT_NEEDS} bits in markMask {settings.mark_mask:#010x}: none is cut"
        )
    for direction in ("Inbound", "Outbound"):
        if not getattr(settings, f"failsafe_{direction.lower()}_host_ports"):
            findings.notices.append(f"failsafe{direction}HostPorts is empty: a policy can cut this host off")
