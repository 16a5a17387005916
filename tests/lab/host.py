"""A host under test: resources are calculated, rendered and applied to the real packet filter of one namespace, and judged.

The same path as the agent's, without its threads, datastore and clock: decode, calculate, render, plan, apply. A change takes
some tens of milliseconds. The thread that makes a `HostUnderTest` must be the one that uses it (libiptc is of one thread).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from msgspec.structs import replace

from hostward.calc.calculate import calculate
from hostward.dataplane import rtnl
from hostward.dataplane.linux import LinuxKernel
from hostward.dataplane.netlink import Netlink
from hostward.engine.applier import Applier, Outcome
from hostward.model import keys
from hostward.model.decode import decode
from hostward.model.keys import ResourceKey
from hostward.model.links import Link
from hostward.model.resolved import Inputs, Scope
from hostward.model.resources import DEFAULT_ALLOW_PROFILE, HostEndpoint, NetworkSet, Policy, Resource, WorkloadEndpoint
from hostward.model.selectors import parse
from hostward.model.settings import BUILT_IN, Settings
from hostward.render.options import options
from hostward.render.renderer import Renderer
from hostward.render.ruleset import Rule, Ruleset, TableId
from tests.lab.netns import Namespace
from tests.lab.oracle import Host

NETLINK_ROUTE = 0
NAMESPACE = "projectcalico.org/namespace"
HOSTS = f"!has({NAMESPACE})"  # a selector; it doesn't find workloads, as all() would
Document = Mapping[str, Any]


def document(kind: str, name: str, /, *, labels: Mapping[str, str] | None = None, **spec: Any) -> Document:
    """A v3 document as a datastore holds it."""
    metadata: dict[str, Any] = {"name": name, **({"labels": dict(labels)} if labels else {})}
    return {"apiVersion": keys.API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def load(item: Document | Resource) -> tuple[ResourceKey, Resource]:
    """A document as the agent understands it, with its key. Fails when anything in it isn't understood."""
    if not isinstance(item, Mapping):
        return _key(item), item
    key = ResourceKey(item["kind"], "", item["metadata"]["name"])
    decoded = decode(key, json.dumps(item).encode())
    assert decoded.value is not None, item
    assert not decoded.problems, decoded.problems
    return key, decoded.value


def _key(resource: Resource) -> ResourceKey:
    if isinstance(resource, Policy):
        return resource.key
    if isinstance(resource, WorkloadEndpoint):
        return ResourceKey("WorkloadEndpoint", resource.namespace, resource.name)
    kind = "GlobalNetworkSet" if isinstance(resource, NetworkSet) else type(resource).__name__
    return ResourceKey(kind, "", getattr(resource, "name", "default"))


class HostUnderTest:
    """The packet filter of a namespace, and what it shall enforce. `node` is its name in host endpoints.

    `ruleset` is what was applied last. Leaving the context removes nothing but sockets: the namespace goes by itself.
    """

    def __init__(self, namespace: Namespace, node: str = "worker") -> None:
        self.namespace, self.node = namespace, node
        self.resources: dict[ResourceKey, Resource] = {}
        self.settings: Settings = BUILT_IN
        self.ruleset = Ruleset()
        self._renderers: dict[Settings, Renderer] = {}
        self._home = tempfile.TemporaryDirectory(prefix="hostward-host-")
        self.kernel = LinuxKernel(Path(self._home.name, "xtables.lock"), 10.0)
        self.applier = Applier(self.kernel)
        self.links: Mapping[str, Link] = {}
        self.relink()

    def relink(self) -> None:
        """Reads the interfaces and addresses again."""
        with self.namespace.entered():
            netlink = Netlink(NETLINK_ROUTE)
        try:
            self.links = rtnl.read(netlink).links()
        finally:
            netlink.close()

    def bring(self, *items: Document | Resource, **settings: Any) -> Outcome:
        """Makes these documents and resources, and no others, what is in force. `settings`: attributes of Settings."""
        self.resources = dict(map(load, items))
        assert len(self.resources) == len(items), "two resources of one name"
        return self.apply(replace(BUILT_IN, **settings))

    def apply(self, settings: Settings) -> Outcome:
        """Applies `resources` with these settings."""
        self.settings = settings
        chosen = options(settings, ())
        renderer = self._renderers.setdefault(settings, Renderer(chosen))
        self.ruleset = renderer.render(calculate(Inputs(self._scope(), self.resources, self.links)))
        with self.namespace.entered():
            return self.applier.bring(self.ruleset, chosen.marks)

    def _scope(self) -> Scope:
        return Scope(self.node, self.settings.interface_prefix, ("kube-ipvs0",))

    def oracle(self) -> Host:
        """What policy says about packets of this host, worked out independently."""
        return Host.under(self.settings, self.node, self.resources.values(), self.links)

    def counted(self, table: TableId, chain: str) -> list[tuple[Rule, int]]:
        """The rules of one of our chains with the packets that each has matched since it was written."""
        with self.namespace.entered():
            counts = self.kernel.counters(table)[chain]
        rules = self.ruleset.tables[table].chains[chain]
        return list(zip(rules, counts[::2], strict=True))

    def close(self) -> None:
        """Closes sockets."""
        self.kernel.close()
        self._home.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def endpoint(interface: str, name: str = "", /, *, node: str = "worker", **spec: Any) -> Document:
    """A host endpoint for an interface of the host under test, labelled with it."""
    labels = {"interface": "any" if interface == "*" else interface, **spec.pop("labels", {})}
    name = name or f"on-{labels['interface']}"
    return document("HostEndpoint", name, labels=labels, node=node, interfaceName=interface, **spec)


def policy(
    name: str, /, *, ingress: Iterable[Document] | None = None, egress: Iterable[Document] | None = None, **spec: Any
) -> Document:
    """A global network policy, for host endpoints unless `selector` says otherwise. Its `types` are the directions given."""
    directions = {"ingress": ingress, "egress": egress}
    given = {name: list(rules) for name, rules in directions.items() if rules is not None}
    types = [name.capitalize() for name in given]
    if spec.get("preDNAT") or spec.get("doNotTrack"):
        spec.setdefault("applyOnForward", True)
    return document("GlobalNetworkPolicy", name, **{"selector": HOSTS, "types": types, **given, **spec})


def in_namespace(namespace: str, item: Document) -> Policy:
    """A global policy as the NetworkPolicy of this name would be: for the workloads of one namespace only (M-14)."""
    _, value = load(item)
    assert isinstance(value, Policy)
    key = ResourceKey("NetworkPolicy", namespace, value.key.name)
    return replace(value, key=key, selector=parse(f"({value.selector}) && {NAMESPACE} == '{namespace}'").text)


def workload(
    interface: str,
    addresses: Iterable[str],
    /,
    *,
    namespace: str = "default",
    node: str = "worker",
    labels: Mapping[str, str] | None = None,
    profiles: Iterable[str] = (DEFAULT_ALLOW_PROFILE,),
    **fields: Any,
) -> WorkloadEndpoint:
    """A workload endpoint; all its traffic is allowed where no policy selects it, unless `profiles` say otherwise."""
    own = {NAMESPACE: namespace, **(labels or {})}
    return WorkloadEndpoint(
        namespace, f"on-{interface}", node, interface, tuple(addresses), tuple(profiles), labels=own, **fields
    )


def rule(
    action: str = "Allow", protocol: str | int | None = None, ports: Iterable[Any] | None = None, **fields: Any
) -> Document:
    """A rule; `ports` are destination ports."""
    found: dict[str, Any] = {"action": action, **fields}
    if protocol is not None:
        found["protocol"] = protocol
    if ports is not None:
        found["destination"] = {**found.get("destination", {}), "ports": list(ports)}
    return found


def isolated(resource: Resource) -> Resource:
    """An endpoint as it stands in when it isn't wholly understood."""
    assert isinstance(resource, HostEndpoint | WorkloadEndpoint)
    return replace(resource, isolated=True)
