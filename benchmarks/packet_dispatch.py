"""Dispatch by interface as a tree of prefixes, for the hand-written routers. Pure text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

MOST_IN_A_ROW = 16


def tree(root: str, way: str, targets: Mapping[str, str], end: str, *, levels: int = 9) -> Iterator[str]:
    """Rules from `root` to each interface's chain by goto, more than 16 told apart by the next character first.

    `end`: the last rule of each chain. `levels`: the most; Felix has one.
    """
    names = sorted(targets)
    pairs = list(zip(names[0], names[-1], strict=False)) if names else []
    shared = next((at for at, (a, b) in enumerate(pairs) if a != b), len(pairs))
    if len(names) <= MOST_IN_A_ROW or not levels:
        for name in names:
            yield f"-A {root} {way} {name} -g {targets[name]}"
        yield f"-A {root} {end}"
        return
    bins: dict[str, dict[str, str]] = {}
    for name in names:
        bins.setdefault(name[: shared + 1], {})[name] = targets[name]
    for prefix, among in bins.items():
        if len(among) == 1:
            ((name, chain),) = among.items()
            yield f"-A {root} {way} {name} -g {chain}"
        else:
            yield f"-A {root} {way} {prefix}+ -g {_child(root, prefix)}"
    yield f"-A {root} {end}"
    for prefix, among in bins.items():
        if len(among) > 1:
            yield from tree(_child(root, prefix), way, among, end, levels=levels - 1)


def _child(root: str, prefix: str) -> str:
    return f"{root.partition('.')[0]}.{prefix[4:]}"
