"""Which groups have rules for a table, and what may come of a jump to each. Owned by the engine thread's renderer."""

from __future__ import annotations

from hostward.render.bodies import Bodies, Traits, Variant, joint
from hostward.render.groups import Group


class GroupTraits:
    """The traits of groups in the tables of one variant, each found when first asked for."""

    def __init__(self, bodies: Bodies, variant: Variant) -> None:
        self._bodies = bodies
        self._variant = variant
        self._traits: dict[str, Traits | None] = {}

    def __call__(self, groups: tuple[Group, ...]) -> list[tuple[str, Traits]]:
        """The chains of these groups with their traits, but for groups without a rule."""
        found = []
        for group in groups:
            if group.chain not in self._traits:
                self._traits[group.chain] = self._find(group)
            traits = self._traits[group.chain]
            if traits is not None:
                found.append((group.chain, traits))
        return found

    def refresh(self, group: Group) -> bool:
        """Whether a group of which a policy has changed has other traits than somebody was told."""
        if group.chain not in self._traits:
            return False
        old, new = self._traits[group.chain], self._find(group)
        self._traits[group.chain] = new
        return new != old

    def forget(self, chain: str) -> None:
        """Drops what nobody goes through any more."""
        self._traits.pop(chain, None)

    def _find(self, group: Group) -> Traits | None:
        bodies = (self._bodies.body(member, self._variant) for member in group.members)
        parts = [body.traits for body in bodies if body.traits is not None]
        return joint(parts) if parts else None
