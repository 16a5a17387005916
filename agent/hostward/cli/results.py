"""What a writing command did, in calicoctl's words (`statements.md` C.2). Pure; any thread."""

from __future__ import annotations

from msgspec import Struct, field


class Outcome(Struct):
    """What became of resources, whose kinds are `kinds`. `verb` is such as `apply`, `done` such as `applied`."""

    verb: str
    done: str
    kinds: list[str]
    succeeded: int = 0
    errors: list[str] = field(default_factory=list)
    each: list[str] = field(default_factory=list)
    """What became of each resource that was tried, a line each."""

    @property
    def _named(self) -> str:
        return f"'{self.kinds[0]}' " if len(set(self.kinds)) == 1 else ""

    def success(self) -> str:
        """The line for stdout when nothing failed."""
        return f"Successfully {self.done} {self.succeeded} {self._named}resource(s)"

    def failure(self) -> str:
        """The text for stderr when something failed; of several resources it says what became of each."""
        if len(self.kinds) == 1:
            return self._summary()
        return "\n".join([self._summary(), *(f"  {line}" for line in self.each)])

    def _summary(self) -> str:
        errors = f"[{', '.join(self.errors)}]"
        if self.succeeded:
            head = f"Partial success: {self.done} the first {self.succeeded} out of {len(self.kinds)} {self._named}resources:"
            return f"{head}\nhit error: {errors}"
        if len(self.kinds) == 1:
            return f"failed to {self.verb} {self._named}resource: {errors}"
        return f"failed to {self.verb} any {self._named}resources: {errors}"
