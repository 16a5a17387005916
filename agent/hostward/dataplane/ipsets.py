"""Our sets in the kernel: read them, make them, fill them, swap them.

It knows netlink and set names, not what a set is for or which rule uses it; what to change is the plan's business. The engine
thread runs it. The socket opens at first use, in the network namespace that the thread is in then, and stays.

A set appears under its final name only when it is whole: it is filled under a temporary name of ours (`hw4~~0`), counted, and
then renamed or swapped. An agent that was killed leaves at most such a temporary set, which counts as ours and is reused.
The second `~` keeps these names apart from every name that a plan uses.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from types import TracebackType
from typing import Final

from hostward.dataplane import ipset_wire as wire
from hostward.dataplane.kernel import ActualSet, CreateSet, DestroySet, KernelError, ReplaceSet, SetStep, UpdateSet
from hostward.dataplane.netlink import NETLINK_NETFILTER, NLM_F_ACK, NLM_F_EXCL, Netlink, RefusedError
from hostward.render.ruleset import MAX_SET_NAME, is_own_set

_EXCLUSIVE: Final = NLM_F_ACK | NLM_F_EXCL
_TEMPORARIES: Final = 16
_BUSY, _TAKEN, _MISMATCH, _REFERENCED, _FULL = 4100, 4101, 4102, 4108, 4352
# What the kernel's codes mean (include/uapi/linux/netfilter/ipset/ip_set.h), and whether trying again may help.
_MEANINGS: Final[dict[int, tuple[str, bool]]] = {
    errno.EPERM: ("not permitted: the agent needs CAP_NET_ADMIN", False),
    errno.EBUSY: ("another process is listing it", True),
    errno.ENOENT: ("it does not exist (any more)", True),
    errno.EEXIST: ("a set of that name exists already", True),
    errno.ENOMEM: ("the kernel has no memory for it", True),
    errno.EINVAL: ("the kernel does not know the request: is the module ip_set loaded?", False),
    4097: ("the kernel does not understand the request: a set of another type, or a kernel older than 4.20", False),
    4098: ("the kernel has no such set type: are the modules ip_set_hash_net and ip_set_hash_ipport there?", False),
    4099: ("the kernel has no room for more sets (65,534)", False),
    _BUSY: ("it is in use", True),
    _TAKEN: ("a set of that name exists already", True),
    _MISMATCH: (
        "the set in the kernel has another type or family; swapping needs equal ones, so it must be destroyed first",
        False,
    ),
    4103: ("a member is there already, or missing", True),
    4104: ("a member's prefix length is not valid", False),
    4106: ("a member is of another IP version than the set", False),
    _REFERENCED: ("it is in use", True),
    4109: ("a member of another IP version: the set takes IPv4", False),
    4110: ("a member of another IP version: the set takes IPv6", False),
    _FULL: ("it is full", False),
}


class IPSets:
    """The part of `kernel.Kernel` that is about sets. Every call may raise KernelError."""

    def __init__(self) -> None:
        self.messages = 0
        """Those sent to change sets, so far."""
        self._open: Netlink | None = None
        self._headers: dict[bytes, wire.Header | None] = {}
        """Of the messages of the last look without members: most sets say what they said then."""

    def close(self) -> None:
        """Closes the socket; the next call opens another, in the namespace that its thread is in."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def __enter__(self) -> IPSets:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # --- reading -------------------------------------------------------------------------------------------------------
    def read_sets(self, names: Collection[str] | None = None, *, members: bool = True) -> dict[str, ActualSet]:
        """Our sets in the kernel, temporary ones too, all or those named that exist.

        Members read as `ipset save` prints them; one with an option that we never set has it behind a space ("10.0.0.0/8
        nomatch"). A set that somebody made with another type or with options ("hash:net with timeout") has that as its type
        and an empty `members`; it takes a ReplaceSet, or a DestroySet when the type itself differs.
        """
        bodies = self._list(names, headers_only=not members)
        if not members:
            known = self._headers
            self._headers = {body: known[body] if body in known else wire.header(body) for body in bodies}
            return {one.name: _actual(one) for one in self._headers.values() if one is not None and is_own_set(one.name)}
        found: dict[str, ActualSet] = {}
        content: dict[str, list[str]] = {}
        for body in bodies:
            name = wire.name_of(body)
            if not is_own_set(name):
                continue
            if (header := wire.header(body)) is not None:
                found[name] = _actual(header)
                content[name] = []
            if name in found and found[name].type in wire.TYPES:
                content[name] += wire.members(body, found[name].family)
        return {
            name: ActualSet(set_.type, set_.family, set_.max_members, frozenset(content[name]), set_.count)
            for name, set_ in found.items()
        }

    def _list(self, names: Collection[str] | None, *, headers_only: bool) -> list[bytes]:
        bodies: list[bytes] = []
        for name in [None] if names is None else sorted(names):
            try:
                bodies += self._dump(wire.listed(name, headers_only=headers_only))
            except RefusedError as refused:
                if refused.code != errno.ENOENT:
                    raise _error(f"cannot list {f'set {name}' if name else 'the sets'}", refused, None) from refused
        return bodies

    # --- writing -------------------------------------------------------------------------------------------------------
    def apply(self, step: SetStep) -> None:
        """Carries out one step. After a KernelError the set is as it was, except that an UpdateSet may be half done.

        An UpdateSet adds before it removes, so the set must have room for both (else plan a ReplaceSet, which can also raise
        `max_members`). Destroying a set that is gone is no error.
        """
        if not is_own_set(step.name) or len(step.name) > MAX_SET_NAME:
            raise KernelError(f"set {step.name}: not touched, its name is none of ours", step=step)
        try:
            match step:
                case CreateSet():
                    self._create(step)
                case ReplaceSet():
                    self._replace(step)
                case UpdateSet():
                    self._update(step)
                case DestroySet():
                    self._destroy(step)
        except wire.MemberError as bad:
            raise KernelError(f"set {step.name}: {bad}", step=step) from bad
        except KernelError as error:
            error.step = step
            raise

    def _create(self, step: CreateSet) -> None:
        temporary = self._filled(step)
        try:
            self._request(wire.RENAME, wire.renamed(temporary, step.name))
        except RefusedError as refused:
            self._discard(temporary)
            raise _error(f"set {step.name}: cannot be created", refused, step) from refused

    def _replace(self, step: ReplaceSet) -> None:
        temporary = self._filled(step)
        try:
            self._request(wire.SWAP, wire.renamed(step.name, temporary))
        except RefusedError as refused:
            raise _error(f"set {step.name}: cannot be replaced", refused, step) from refused
        finally:
            self._discard(temporary)

    def _update(self, step: UpdateSet) -> None:
        # A member that is read with an option is removed by its address; when it is wanted without, adding it has done that.
        remove = {member.partition(" ")[0] for member in step.remove} - step.add
        add_bodies = list(wire.batches(step.name, wire.packed(wire.kind_of(step.add), step.family, step.add)))
        remove_bodies = list(wire.batches(step.name, wire.packed(wire.kind_of(remove), step.family, remove)))
        doing = "added to"
        try:
            for body in add_bodies:
                self._request(wire.ADD, body)
            doing = "removed from"
            for body in remove_bodies:
                self._request(wire.DELETE, body)
        except RefusedError as refused:
            count = len(step.add) if doing == "added to" else len(remove)
            error = _error(f"set {step.name}: {count} members cannot be {doing} it", refused, step)
            error.retry = refused.code != _FULL  # whatever it was, a fresh look at the set makes a better plan
            raise error from refused

    def _destroy(self, step: DestroySet) -> None:
        try:
            self._request(wire.DESTROY, wire.named(step.name))
        except RefusedError as refused:
            if refused.code == errno.ENOENT:  # older kernels say so; newer ones are content
                return
            error = _error(f"set {step.name}: cannot be destroyed", refused, step)
            if refused.code == _BUSY and (users := self._references(step.name)):
                raise KernelError(f"set {step.name}: cannot be destroyed, {users} rules or sets use it", step=step) from refused
            raise error from refused

    def _filled(self, step: CreateSet | ReplaceSet) -> str:
        """Makes a temporary set that holds exactly what the step wants; its name. Leaves nothing behind when it fails."""
        wanted = step.set
        entries = wire.packed(wanted.type, wanted.family, wanted.members)
        temporary = self._temporary(step)
        done = False
        try:
            for body in wire.batches(temporary, entries):
                self._request(wire.ADD, body)
            count = sum(
                header.count for body in self._dump(wire.listed(temporary, headers_only=True)) if (header := wire.header(body))
            )
            if count != len(wanted.members):
                text = f"set {step.name}: the kernel holds {count} of {len(wanted.members)} members: some name the same network"
                raise KernelError(text, step=step, retry=True)
            done = True
        except RefusedError as refused:
            what = f"set {step.name}: cannot take {len(wanted.members)} members (at most {wanted.max_members})"
            raise _error(what, refused, step) from refused
        finally:
            if not done:
                self._discard(temporary)
        return temporary

    def _temporary(self, step: CreateSet | ReplaceSet) -> str:
        """Makes an empty set under a temporary name, in place of what a killed agent left there; its name."""
        wanted = step.set
        for number in range(_TEMPORARIES):
            name = f"hw{wanted.family}~~{number}"
            body = wire.created(name, wanted.type, wanted.family, wanted.max_members, len(wanted.members))
            try:
                try:
                    self._request(wire.CREATE, body, flags=_EXCLUSIVE)
                except RefusedError as refused:
                    if refused.code != errno.EEXIST:
                        raise
                    self._request(wire.DESTROY, wire.named(name))
                    self._request(wire.CREATE, body, flags=_EXCLUSIVE)
            except RefusedError as refused:
                if refused.code == _BUSY and number + 1 < _TEMPORARIES:
                    continue  # somebody's rule uses it, or somebody is listing it: leave it and take the next name
                raise _error(f"set {step.name}: cannot make a {wanted.type} set {name} to fill", refused, step) from refused
            return name
        raise AssertionError("the last attempt returns or raises")

    def _discard(self, temporary: str) -> None:
        """Destroys a temporary set. Failing that, it stays: it shows in `read_sets` as ours, for the plan or the next step."""
        try:
            self._request(wire.DESTROY, wire.named(temporary))
        except (RefusedError, KernelError):
            return

    def _references(self, name: str) -> int:
        headers = [wire.header(body) for body in self._list([name], headers_only=True)]
        return headers[0].references if headers and headers[0] else 0

    # --- the conversation ----------------------------------------------------------------------------------------------
    def _request(self, kind: int, body: bytes, *, flags: int = NLM_F_ACK) -> bytes:
        self.messages += 1
        try:
            return self._socket().request(kind, body, flags=flags)
        except OSError as error:
            raise self._broken(error) from error

    def _dump(self, body: bytes) -> list[bytes]:
        try:
            return self._socket().dump(wire.LIST, body)
        except OSError as error:
            raise self._broken(error) from error

    def _socket(self) -> Netlink:
        if self._open is None:
            self._open = Netlink(NETLINK_NETFILTER)
        return self._open

    def _broken(self, error: OSError) -> KernelError:
        self.close()
        return KernelError(f"the conversation with the kernel about sets broke: {error.strerror or error}", retry=True)


def _actual(header: wire.Header) -> ActualSet:
    """A set of which nothing but the header was read."""
    return ActualSet(header.type, header.family, header.max_members, None, header.count)


def _error(what: str, refused: RefusedError, step: SetStep | None) -> KernelError:
    meaning, retry = _MEANINGS.get(refused.code, (os.strerror(refused.code) if refused.code < 4096 else "", True))
    return KernelError(f"{what}: {meaning or 'the kernel refuses it'} (error {refused.code})", step=step, retry=retry)
