"""What KubeControllersConfiguration `default` says about nodes and their automatic host endpoints (kubernetes 1.6).

Calico's fields, and of a template ours: `interfaceName`, `profiles`, `ports`. Pure functions; any thread.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from msgspec import Struct

from hostward.controller.items import Document, Stored
from hostward.convert import validate
from hostward.model import nets, selectors
from hostward.model.fields import Problem
from hostward.model.keys import API_VERSION
from hostward.model.selectors import Selector

DEFAULT_PROFILES: Final = ("projectcalico-default-allow",)
_KIND: Final = "KubeControllersConfiguration"
_PATH: Final = "spec.controllers.node"
_ABOVE: Final = ("", "spec", "spec.controllers", "metadata", "kind", "apiVersion")


class Template(Struct, frozen=True):
    """A way to make host endpoints of nodes. `profiles` and `ports` are None where the template leaves them open."""

    name: str
    selector: Selector
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    networks: tuple[str, ...] = ()
    pattern: str = ""
    interface: str = ""
    profiles: tuple[str, ...] | None = None
    ports: tuple[Document, ...] | None = None


class NodeSettings(NamedTuple):
    """What to do about nodes. `known` is False until a document, or that there is none, was understood."""

    known: bool = True
    sync_labels: bool = True
    create: bool = False
    """Whether automatic host endpoints are on."""
    create_default: bool = True
    """Whether each node gets one for all its interfaces, too."""
    templates: tuple[Template, ...] = ()
    problems: tuple[Problem, ...] = ()


UNKNOWN: Final = NodeSettings(known=False)
"""Before the store was read."""


def read_node_settings(stored: Stored | None, before: NodeSettings) -> NodeSettings:
    """The settings of the stored document. One that isn't understood leaves `before` in force; none means Calico's defaults.

    Of the document, only what is about nodes is judged: the rest is for Calico's own controllers.
    """
    if stored is None:
        return NodeSettings()
    problems = _problems(stored.document)
    if problems or stored.document is None:
        return before._replace(problems=problems)
    node = _at(stored.document, "spec", "controllers", "node")
    endpoint = _at(node, "hostEndpoint")
    return NodeSettings(
        sync_labels=node.get("syncLabels") != "Disabled",
        create=endpoint.get("autoCreate") == "Enabled",
        create_default=endpoint.get("createDefaultHostEndpoint") != "Disabled",
        templates=tuple(_template(one) for one in endpoint.get("templates") or ()),
    )


def _problems(document: Document | None) -> tuple[Problem, ...]:
    if document is None:
        return (Problem("", "the stored value is no JSON object"),)
    about = {"apiVersion": API_VERSION, "kind": _KIND} | {name: value for name, value in document.items() if value is not None}
    stripped = {name: value for name, value in about.items() if name != "status"}
    found = [one for one in validate.problems(stripped) if one.path in _ABOVE or one.path.startswith(_PATH)]
    templates = _at(document, *_PATH.split("."), "hostEndpoint").get("templates") if not found else None
    for index, template in enumerate(templates or ()):
        try:
            re.compile(template.get("interfacePattern") or "")
        except (re.error, RecursionError, OverflowError) as error:
            path = f"{_PATH}.hostEndpoint.templates[{index}].interfacePattern"
            found.append(Problem(path, f"no regular expression: {error}"))
    return tuple(found)


def _template(one: Mapping[str, Any]) -> Template:
    profiles, ports = one.get("profiles"), one.get("ports")
    return Template(
        name=one.get("generateName") or "",
        selector=selectors.parse(one.get("nodeSelector") or ""),
        labels=one.get("labels") or {},
        annotations=one.get("annotations") or {},
        networks=tuple(net for text in one.get("interfaceCIDRs") or () if (net := nets.parse_net(text))),
        pattern=one.get("interfacePattern") or "",
        interface=one.get("interfaceName") or "",
        profiles=None if profiles is None else tuple(profiles),
        ports=None if ports is None else tuple(ports),
    )


def _at(value: Any, *path: str) -> Mapping[str, Any]:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
