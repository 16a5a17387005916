"""Damage to stored documents: what a broken disk, a bad script or somebody who wishes us ill may put there."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 1e30, 10**30, -(10**18), "", "\0", "\ud800", "x" * 5000, "Allow", [], {}, [[]], [None], {"a": 1},
    {"": {}}, "-j ACCEPT", "1:2:3", "::/0", "0.0.0.0/0",
)  # fmt: skip


def damaged(document: dict[str, Any], rng: random.Random) -> bytes:
    """A document with something wrong in it; now and then it happens to mean something all the same."""
    way = rng.randrange(9)
    text = json.dumps(document).encode()
    place = rng.randrange(len(text))
    if way == 0:
        return text[:place]
    if way == 1:
        return rng.randbytes(rng.randrange(200))
    if way == 2:
        return text[:place] + rng.randbytes(rng.randrange(1, 4)) + text[place + 1 :]
    if way == 3:
        return text[:place] + rng.choice((b"\0", b"\xff\xfe", b'"', b"{", b"]", b"\\", b"\n")) + text[place:]
    if way == 4:
        depth = rng.randrange(1, 3000)
        return text.replace(b'"spec": ', b'"spec": ' + b"[" * depth, 1) + b"]" * (depth if rng.random() < 0.5 else 0)
    other = copy.deepcopy(document)
    for _ in range(rng.randrange(1, 4)):
        holder, step = rng.choice(list(places(other)))
        if way == 5:
            del holder[step]
        elif way == 6 and isinstance(holder, dict):
            holder[f"{step}{rng.choice('xX _')}"] = holder.pop(step)
        else:
            holder[step] = copy.deepcopy(rng.choice(JUNK))
        if not isinstance(other.get("spec"), dict):
            break
    return json.dumps(other).encode()


def places(value: Any) -> Any:
    """Every holder and step inside a JSON value, from `spec` and `metadata` on."""
    for step, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, step
        if isinstance(inner, dict | list):
            yield from places(inner)
