"""What is in force at boot where no rules were kept: the named interfaces closed, but for failsafe ports (`bootInterfaces`).

The rules are those of endpoints that aren't understood, so an agent takes them over like any others. Pure; any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from hostward.model.failsafe import FailsafePort
from hostward.model.nets import parse_net
from hostward.model.resolved import Resolved, ResolvedEndpoint
from hostward.model.rules import TCP
from hostward.model.settings import Settings
from hostward.render.options import options
from hostward.render.renderer import Renderer
from hostward.render.ruleset import Family, Ruleset


def minimum(settings: Settings, etcd: Sequence[tuple[str, int]], families: Iterable[Family]) -> Ruleset:
    """The ruleset that closes `bootInterfaces`; `etcd`: hosts and ports that the agent must reach.

    A host that has a name can't be looked up yet: its port is open to any address, or the agent would never get there.
    """
    named = tuple(FailsafePort(TCP, port) for host, port in etcd if parse_net(host) is None)
    settings = replace(settings, failsafe_outbound_host_ports=(*settings.failsafe_outbound_host_ports, *named))
    closed = {name: ResolvedEndpoint(name, "bootInterfaces", isolated=True) for name in settings.boot_interfaces}
    return Renderer(options(settings, etcd, families)).render(Resolved(endpoints=closed))
