"""A namespace with one XTables in it, and the system's own tools to compare with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hostward.dataplane.kernel import TableEdit, Unknown
from hostward.dataplane.xtables.tables import XTables
from hostward.render.ruleset import ACCEPT, Chain, Hook, Jump, Protocol, Rule, TableId
from hostward.render.text import rule_text
from tests.lab.netns import Namespace

FILTER = TableId(4, "filter")
HOOK = Hook((Rule((), Jump("hw-a")),))


class Lab:
    """The calling thread must be in the namespace."""

    def __init__(self, ns: Namespace, lock_path: Path) -> None:
        self.ns = ns
        self.lock_path = lock_path
        self.tables = XTables(lock_path, 5.0)

    def tool(self, table: TableId, *words: str) -> str:
        return self.ns.run("iptables-legacy" if table.family == 4 else "ip6tables-legacy", "-t", table.name, *words)

    def save(self, table: TableId, *options: str) -> list[str]:
        """The table as the system's tool prints it, without remarks."""
        program = "iptables-legacy-save" if table.family == 4 else "ip6tables-legacy-save"
        lines = self.ns.run(program, "-t", table.name, *options).splitlines()
        return [line for line in lines if not line.startswith("#")]

    def restore(self, table: TableId, chain: str, rules: Chain) -> None:
        """Makes a chain through the system's tool."""
        lines = [f"*{table.name}", f":{chain} - -", *(f"-A {chain} {rule_text(r, table.family)}" for r in rules), "COMMIT", ""]
        program = "iptables-legacy-restore" if table.family == 4 else "ip6tables-legacy-restore"
        self.ns.run(program, "--noflush", data="\n".join(lines))

    def put(self, chains: dict[str, Chain | None], hooks: dict[str, Hook] | None = None, table: TableId = FILTER) -> None:
        """Writes, and reads back."""
        self.tables.apply(TableEdit(table, chains, hooks or {}))
        for written in self.tables.unverified():
            self.tables.verify(written)

    def own(self, table: TableId = FILTER) -> dict[str, tuple[Rule | Unknown, ...]]:
        return dict(self.tables.read_table(table).chains)

    def rules(self, chain: str, table: TableId = FILTER) -> list[str]:
        """The rules of a chain as the system's tool prints them."""
        return [line for line in self.save(table) if line.startswith(f"-A {chain} ")]


def tagged(number: int) -> Rule:
    """A rule that can be told from others by its comment."""
    return Rule((Protocol(6),), ACCEPT, f"rule-{number}")


@contextmanager
def entered_lab(directory: Path) -> Iterator[Lab]:
    """A lab in a namespace of its own, which the calling thread is in."""
    ns = Namespace("xt")
    try:
        with ns.entered():
            yield Lab(ns, directory / "xtables.lock")
    finally:
        ns.close()
