"""What Felix has left in the kernel, and its removal: chains, the rules that lead there, sets. Only Felix's, only when asked.

It reads and writes as the legacy tools' text, under the xtables lock, a table at a time, each in one commit. For the command
line; no thread of the agent uses it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, cast

from hostward.dataplane.kernel import KernelError
from hostward.dataplane.xtables.lock import XtablesLock
from hostward.dataplane.xtables.restore import run
from hostward.render.roots import HOOKED
from hostward.render.ruleset import FAMILIES, Family, TableId, TableName, is_own_chain

TABLES: Final = ("raw", "mangle", "nat", "filter")
VARIANTS: Final = ("legacy", "nft")
PREFIXES: Final = ("cali-", "califw-", "calitw-", "califh-", "calith-", "calipi-", "calipo-", "felix-")  # statements.md H-81
MASQUERADING: Final = "cali-nat-outgoing"
_SET: Final = re.compile(r"(cali[46][0t]|felix-[46]-)")
_COMMENT: Final = re.compile(r'--comment "?cali:')
_JUMP: Final = re.compile(r"-[jg] (\S+)")
_GUARDED: Final = re.compile(r"-A cali-\S+ -[io] (\S+) .*-[jg] cali-(?:fh|th|fw|tw)-")
_ANY: Final = re.compile(r"-A cali-(?:from|to)-host-endpoint .*-[jg] cali-[ft]h-any-interface-at-all")
_TIMEOUT: Final = 120


class Process(NamedTuple):
    """A running Felix."""

    pid: int
    name: str


class Place(NamedTuple):
    """A table of one of iptables' two variants: Felix writes to the one that it found in use (H-94)."""

    variant: str
    family: Family
    table: str


class Left(NamedTuple):
    """What Felix has in the kernel: per table the rules of others' chains that are its own, and its chains; its sets.

    `masquerades`: it gives what pods send the host's address. `guarded`: interfaces that it judges, `*` for all others.
    `unhooked`: chains of the kernel where our jump isn't the first rule but for Felix's.
    """

    rules: Mapping[Place, tuple[str, ...]]
    chains: Mapping[Place, tuple[str, ...]]
    sets: tuple[str, ...]
    masquerades: bool
    guarded: frozenset[str]
    unhooked: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.sets or any(self.chains.values()) or any(self.rules.values()))


def processes(proc: Path = Path("/proc")) -> list[Process]:
    """Felix, where it runs in this network namespace, as far as its processes can be seen."""
    here = _namespace(proc / "self")
    found = []
    for directory in sorted(proc.glob("[0-9]*")):
        try:
            words = (directory / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        name = os.path.basename(words[0])
        is_felix = name == "calico-felix" or (name == "calico-node" and "-felix" in words)
        if is_felix and _namespace(directory) in (here, None):
            found.append(Process(int(directory.name), name))
    return found


def _namespace(directory: Path) -> str | None:
    try:
        return os.readlink(directory / "ns/net")
    except OSError:
        return None


def look(families: Iterable[Family] = FAMILIES) -> Left:
    """Raises KernelError when a tool is missing or fails."""
    rules: dict[Place, tuple[str, ...]] = {}
    chains: dict[Place, tuple[str, ...]] = {}
    masquerades, guarded, unhooked = False, set[str](), list[str]()
    saved = {place: lines for family in families for place, lines in _saved(family)}
    for family in families:
        for table, kernel_chains in HOOKED.items():
            present = saved.get(Place("legacy", family, table), [])
            unhooked += [f"{chain} of {table}/v{family}" for chain in kernel_chains if not _is_first(table, chain, present)]
    for place, lines in saved.items():
        chains[place] = tuple(line.split()[0][1:] for line in lines if line.startswith(tuple(f":{name}" for name in PREFIXES)))
        rules[place] = tuple(line for line in lines if line.startswith("-A ") and _leads_there(line))
        masquerades |= any(line.startswith(f"-A {MASQUERADING} ") and "-j MASQUERADE" in line for line in lines)
        guarded |= {found[1] for line in lines if place.table == "filter" and (found := _GUARDED.match(line))}
        guarded |= {"*" for line in lines if place.table == "filter" and _ANY.match(line)}
    sets = tuple(name for name in _run("ipset", "list", "-name").split() if _SET.match(name))
    return Left(rules, chains, sets, masquerades, frozenset(guarded), tuple(unhooked))


def _is_first(table: str, chain: str, lines: Sequence[str]) -> bool:
    """Whether our jump is the first rule of a kernel chain, Felix's left out. Filter judges what comes in and what is sent on,
    always; elsewhere there is nothing to judge where we have no chain for it."""
    rest = [line for line in lines if line.startswith(f"-A {chain} ") and not _leads_there(line)]
    ours = [_leads_to_ours(line) for line in rest]
    judges = (table == "filter" and chain != "OUTPUT") or any(line.startswith(f":hw-{chain} ") for line in lines)
    return ours[0] if any(ours) else not judges


def _leads_to_ours(line: str) -> bool:
    jump = _JUMP.search(line)
    return jump is not None and is_own_chain(jump[1])


def _leads_there(line: str) -> bool:
    """Whether a rule of a chain that isn't Felix's is its own: by its comment, or by where it leads (H-88)."""
    if line.split()[1].startswith(PREFIXES):
        return False
    jump = _JUMP.search(line)
    return bool(_COMMENT.search(line) or (jump and jump[1].startswith(PREFIXES)))


def _program(variant: str, family: Family, verb: str) -> str:
    return f"{'ip' if family == 4 else 'ip6'}tables-{variant}-{verb}"


def _saved(family: Family) -> Iterator[tuple[Place, list[str]]]:
    for variant in VARIANTS:
        program = _program(variant, family, "save")
        if variant != "legacy" and shutil.which(program) is None:
            continue
        table = ""
        found: dict[str, list[str]] = {}
        for line in _run(program).splitlines():
            if line.startswith("*"):
                table = line[1:].strip()
            elif table and not line.startswith(("#", "COMMIT")):
                found.setdefault(table, []).append(line)
        yield from ((Place(variant, family, name), found[name]) for name in TABLES if name in found)


def remove(lock: XtablesLock, tables: Iterable[str]) -> Left:
    """Takes it out of these tables, each in one commit, then the sets that nothing uses any more; what is left then.

    Raises KernelError; what was removed by then stays removed, and the same can be asked for again.
    """
    with lock.held():
        found = look()
        for place, chains in found.chains.items():
            if place.table not in tables or not (chains or found.rules[place]):
                continue
            lines = [f"*{place.table}", *(f"-D{line[2:]}" for line in found.rules[place])]
            lines += [*(f"-F {chain}" for chain in chains), *(f"-X {chain}" for chain in chains), "COMMIT", ""]
            _restore(place, "\n".join(lines))
        for name in found.sets:
            # A set that a rule still uses stays, and is told.
            subprocess.run(["ipset", "destroy", name], capture_output=True, timeout=_TIMEOUT, check=False)
        return look()


def _restore(place: Place, text: str) -> None:
    if place.variant == "legacy":
        run(TableId(place.family, cast(TableName, place.table)), text)  # nat is Felix's, never ours
    else:
        _run(_program(place.variant, place.family, "restore"), "--noflush", data=text)


def _run(*command: str, data: str = "") -> str:
    try:
        done = subprocess.run(
            command, input=data, capture_output=True, text=True, errors="surrogateescape", timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelError(f"cannot run {command[0]}: {error}; install the packages iptables and ipset") from error
    if done.returncode:
        raise KernelError(f"{' '.join(command)} failed with exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout
