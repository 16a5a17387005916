"""calicoctl.cfg to a connection, of both generations: `v1 calicoApiConfig` (B.6), `projectcalico.org/v3 CalicoAPIConfig` (A.9).

Pure: takes the text. Strict: an unknown key is an error with its line.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, Final

from hostward.datastore.connection import Connection, SettingsError, build
from hostward.datastore.documents import DocumentError, Parsed, Source, parse

_ETCD: Final = ("etcdEndpoints", "etcdUsername", "etcdPassword", "etcdKeyFile", "etcdCertFile", "etcdCACertFile")
_V1_ONLY: Final = ("etcdScheme", "etcdAuthority")
_INLINE: Final = ("etcdKey", "etcdCert", "etcdCACert")
_KUBERNETES: Final = (
    "kubeconfig",
    "k8sAPIEndpoint",
    "k8sKeyFile",
    "k8sCertFile",
    "k8sCAFile",
    "k8sAPIToken",
    "k8sInsecureSkipTLSVerify",
)
_V3_UNUSED: Final = (
    "etcdDiscoverySrv",
    "kubeconfigInline",
    "k8sUsePodCIDR",
    "k8sCurrentContext",
    "k8sClientQPS",
    "k8sDisableNodePoll",
)
_GENERATIONS: Final = {
    ("v1", "calicoApiConfig"): (*_ETCD, *_V1_ONLY, *_KUBERNETES, "k8sDisableNodePoll", "datastoreType"),
    ("projectcalico.org/v3", "CalicoAPIConfig"): (*_ETCD, *_INLINE, *_KUBERNETES, *_V3_UNUSED, "datastoreType"),
}
_V2_NOTICE: Final = (
    "datastoreType etcdv2: Hostward speaks etcd's v3 API, at the same endpoints; what is stored by the v2 API it doesn't see"
)


def from_config_file(text: bytes, file: str) -> Connection:
    """The connection that a calicoctl.cfg describes. SettingsError names file, line and key."""
    try:
        found = parse(text, file)
    except DocumentError as error:
        raise SettingsError(f"Error reading config file: {error}") from error
    if len(found) != 1:
        raise SettingsError(f"Error reading config file: {file}: expected one document, found {len(found)}")
    document, source = found[0]
    allowed = _generation(found[0])
    _check_keys(document, ("apiVersion", "kind", "metadata", "spec"), "", source)
    spec = document.get("spec") or {}
    if not isinstance(spec, dict):
        raise SettingsError(f"{source.where('spec')}: spec: expected a mapping")
    _check_keys(spec, allowed, "spec", source)
    notices = _check_type(spec, document["apiVersion"] == "v1", source)
    values = {key: _text(spec, key, source) for key in (*_ETCD, *_V1_ONLY) if spec.get(key) is not None}
    inline = {key: _text(spec, key, source) for key in _INLINE if spec.get(key)}
    names = {key: f"{source.where(f'spec.{key}')}: {key}" for key in values}
    return build(values, {"etcdEndpoints": f"{source.where('spec')}: etcdEndpoints"} | names, inline, notices)


def _generation(found: Parsed) -> tuple[str, ...]:
    document, source = found
    version, kind = document.get("apiVersion"), document.get("kind")
    for (known_version, known_kind), allowed in _GENERATIONS.items():
        if version == known_version:
            if kind == known_kind:
                return allowed
            raise SettingsError(f'{source.where("kind")}: invalid config file: unknown kind "{kind}", expected "{known_kind}"')
    versions = " or ".join(f'"{known}"' for known, _ in _GENERATIONS)
    raise SettingsError(
        f'{source.where("apiVersion")}: invalid config file: unknown apiVersion "{version}", expected {versions}'
    )


def _check_keys(mapping: dict[str, Any], allowed: tuple[str, ...], path: str, source: Source) -> None:
    for key in mapping:
        if key not in allowed:
            where = f"{path}.{key}" if path else key
            close = get_close_matches(key.lower(), [one.lower() for one in allowed], 1, 0.6)
            meant = next((one for one in allowed if close and one.lower() == close[0]), None)
            hint = f'; did you mean "{meant}"?' if meant else ""
            raise SettingsError(f'{source.where(where)}: unknown key "{where}"{hint}')


def _check_type(spec: dict[str, Any], first_generation: bool, source: Source) -> tuple[str, ...]:
    # Where the file names none, calicoctl takes the default of its time and says nothing.
    datastore = spec.get("datastoreType") or "etcdv3"
    if datastore == "kubernetes":
        raise SettingsError(f"{source.where('spec.datastoreType')}: datastoreType kubernetes is not supported; only etcd is")
    if datastore not in ("etcdv3", "etcdv2") or (datastore == "etcdv2" and not first_generation):
        raise SettingsError(f'{source.where("spec.datastoreType")}: unknown datastoreType "{datastore}"; expected "etcdv3"')
    if spec.get("etcdDiscoverySrv"):
        raise SettingsError(f"{source.where('spec.etcdDiscoverySrv')}: etcdDiscoverySrv is not supported; give etcdEndpoints")
    return (_V2_NOTICE,) if datastore == "etcdv2" else ()


def _text(spec: dict[str, Any], key: str, source: Source) -> str:
    value = spec[key]
    if not isinstance(value, str):  # a number's spelling is lost by now, and a password is its spelling
        raise SettingsError(f"{source.where(f'spec.{key}')}: {key}: expected a text; write it in quotes")
    return value
