"""What the agent does, for people: a value, written to `status.json` in `stateDir` and read by `hostward status`.

Only the engine thread publishes; any process reads. Knows no kernel and no datastore.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from hostward.model.keys import ResourceKey
from hostward.model.resolved import PolicyLists, ResolvedEndpoint, ResolvedWorkload, TierPolicies
from hostward.model.resources import Policy
from hostward.report.logs import get_logger

NAME: Final = "status.json"
MAX_SET_ASIDE: Final = 1000
MOST_OF_A_CORE: Final = 0.02  # of the time goes into writing it, however large it is and however often it changes
_LONG: Final = ("interfaces", "workloads")
EVERY: Final = 10.0  # seconds after which an unchanged status is written again, so that ages in it are right


class HookStatus(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The policies of one hook ("untracked", "preDNAT", "normal", "forward") in one direction, in order."""

    hook: str
    direction: str
    policies: tuple[str, ...]


class InterfaceStatus(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """An interface and the host endpoint that governs it. `isolated`: denied all but failsafes, as it isn't understood (D4)."""

    name: str
    endpoint: str
    isolated: bool = False
    hooks: tuple[HookStatus, ...] = ()
    profiles: tuple[str, ...] = ()


class WorkloadStatus(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """An interface and the workload endpoint behind it. `isolated`: nothing may pass, as it isn't understood (D4)."""

    name: str
    endpoint: str
    addresses: tuple[str, ...] = ()
    isolated: bool = False
    hooks: tuple[HookStatus, ...] = ()
    profiles: tuple[str, ...] = ()


class SetAside(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A stored object, or a part of one, that isn't understood. `older_in_force`: its last understood version is (D4)."""

    key: str
    path: str
    reason: str
    older_in_force: bool


class DatastoreStatus(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The connection: a `sizes.DatastoreState`, when it last confirmed that nothing was missed, and what is wrong."""

    state: str = "waiting"
    last_contact: datetime | None = None
    detail: str = ""


class Status(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Everything that `hostward status` shows. Times are UTC. `frozen`: why the kernel state is kept as it is (D12).

    `cut_off`: workload interfaces that exist without an endpoint.
    """

    node: str
    pid: int
    version: str
    started_at: datetime
    written_at: datetime | None = None
    desired_revision: int = 0
    applied_revision: int = 0
    datastore: DatastoreStatus = DatastoreStatus()
    frozen: tuple[str, ...] = ()
    interfaces: tuple[InterfaceStatus, ...] = ()
    workloads: tuple[WorkloadStatus, ...] = ()
    cut_off: tuple[str, ...] = ()
    set_aside: tuple[SetAside, ...] = ()
    set_aside_count: int = 0
    warnings: tuple[str, ...] = ()


class StatusError(Exception):
    """The status can't be read; the text is for the operator."""


def shown_name(key: ResourceKey, policies: Mapping[ResourceKey, Policy]) -> str:
    """A policy by the name that users know; one in a namespace as `namespace/name`."""
    name = policies[key].name if key in policies else key.name
    return f"{key.namespace}/{name}" if key.namespace else name


def _hooks(lists: Mapping[str, tuple[TierPolicies, ...]], policies: Mapping[ResourceKey, Policy]) -> tuple[HookStatus, ...]:
    """The hooks and directions that have policies."""
    found = []
    for hook, tiers in lists.items():
        for direction in ("ingress", "egress"):
            keys = (key for tier in tiers for key in (tier.ingress if direction == "ingress" else tier.egress))
            if names := tuple(shown_name(key, policies) for key in keys):
                found.append(HookStatus(hook=hook, direction=direction, policies=names))
    return tuple(found)


def interface_status(name: str, endpoint: ResolvedEndpoint, policies: Mapping[ResourceKey, Policy]) -> InterfaceStatus:
    """The status of an interface from what calculation resolved; `policies` give the names that users know."""
    of: PolicyLists = endpoint.policies
    lists = {"untracked": of.untracked, "preDNAT": of.pre_dnat, "normal": of.normal, "forward": of.forward}
    return InterfaceStatus(
        name=name,
        endpoint=endpoint.endpoint,
        isolated=endpoint.isolated,
        hooks=_hooks(lists, policies),
        profiles=endpoint.profiles,
    )


def workload_status(name: str, endpoint: ResolvedWorkload, policies: Mapping[ResourceKey, Policy]) -> WorkloadStatus:
    """The same of a workload's interface."""
    return WorkloadStatus(
        name=name,
        endpoint=endpoint.endpoint,
        addresses=endpoint.addresses,
        isolated=endpoint.isolated,
        hooks=_hooks({"normal": endpoint.tiers}, policies),
        profiles=endpoint.profiles,
    )


class StatusFile:
    """Publishes the status of this agent. Trouble with the file is logged and never raised: enforcement goes on without."""

    def __init__(self, state_dir: str, clock: Callable[[], float]) -> None:
        self._path = Path(state_dir, NAME)
        self._clock = clock
        self._last: Status | None = None
        self._due = self._rest_until = float("-inf")
        self._raw: dict[str, tuple[object, msgspec.Raw]] = {}  # per long field what was last encoded, and its JSON
        self._log = get_logger(file=str(self._path))

    @property
    def rest_until(self) -> float:
        """No status should be written before: writing a large one again and again would take too much of a core."""
        return self._rest_until

    def publish(self, status: Status) -> None:
        """Writes the status whole, or not at all: only when it changed or the last one is ten seconds old. Cheap otherwise."""
        now = self._clock()
        if now < self._due and _without_contact(status) == self._last:
            return
        self._last, self._due = _without_contact(status), now + EVERY
        began = time.thread_time()
        try:
            self._write(status)
        except OSError as error:
            self._log.error("status not written", error=str(error))
        self._rest_until = now + (time.thread_time() - began) / MOST_OF_A_CORE

    def _write(self, status: Status) -> None:
        whole = msgspec.structs.replace(
            status,
            written_at=datetime.now(UTC),
            set_aside=status.set_aside[:MAX_SET_ASIDE],
            set_aside_count=max(status.set_aside_count, len(status.set_aside)),
            **{name: self._encoded_once(name, getattr(status, name)) for name in _LONG},
        )
        temporary = self._path.with_name(f".{NAME}.tmp")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        with open(fd, "wb") as file:
            file.write(_encoded(whole) + b"\n")
        temporary.replace(self._path)

    def _encoded_once(self, name: str, value: object) -> msgspec.Raw:
        """The JSON of a long field, which most writes find as the last one did: the very same object."""
        if name not in self._raw or self._raw[name][0] is not value:
            self._raw[name] = value, msgspec.Raw(_encoded(value))
        return self._raw[name][1]


def _encoded(value: object) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:  # an interface whose name isn't UTF-8
        return json.dumps(msgspec.to_builtins(value), ensure_ascii=False).encode(errors="replace")


def _without_contact(status: Status) -> Status:
    """What counts as a change: the time of the last contact, which moves all the time, doesn't."""
    return msgspec.structs.replace(status, datastore=msgspec.structs.replace(status.datastore, last_contact=None))


def read_status(state_dir: str) -> Status:
    """The last status that an agent wrote. StatusError."""
    path = Path(state_dir, NAME)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Status)
    except FileNotFoundError:
        raise StatusError(f"no agent has run with this state directory: {path} is missing") from None
    except OSError as error:
        raise StatusError(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StatusError(f"{path} is not what this version of the agent writes: {error}") from error
