"""How much this process holds: in the containers of Hostward's own objects, and in the caches of its functions."""

from __future__ import annotations

import functools
import gc
import sys
from collections import Counter, deque

_CONTAINERS = (dict, set, list, deque)


def entries() -> Counter[str]:
    """How many things are in containers of our objects, by class and attribute; those one level further down too."""
    found: Counter[str] = Counter()
    gc.collect()
    for thing in gc.get_objects():
        kind = type(thing)
        if isinstance(thing, type) or not str(kind.__module__).startswith("hostward."):
            continue
        slots = [name for one in kind.__mro__ for name in _names(one.__dict__.get("__slots__", ()))]
        for name in {*slots, *getattr(thing, "__dict__", {})}:
            value = getattr(thing, name, None)
            if isinstance(value, _CONTAINERS):
                where = f"{kind.__module__.removeprefix('hostward.')}.{kind.__qualname__}.{name}"
                found[where] += len(value)
                inner = value.values() if isinstance(value, dict) else value
                found[where] += sum(len(one) for one in inner if isinstance(one, (*_CONTAINERS, frozenset, tuple)))
    return found


def _names(slots: str | tuple[str, ...]) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def caches() -> dict[str, functools._lru_cache_wrapper[object]]:
    """The caches of functions in all modules of ours that are loaded, by module and name."""
    return {
        f"{value.__module__.removeprefix('hostward.')}.{value.__name__}": value
        for name, module in list(sys.modules.items())
        if name.startswith("hostward.")
        for value in vars(module).values()
        if isinstance(value, functools._lru_cache_wrapper)
    }
