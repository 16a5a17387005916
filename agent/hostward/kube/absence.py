"""Whether an API server really doesn't serve a resource. A 404 alone may come from a proxy, or a server that still starts.

Runs in the thread of whoever asks.
"""

from __future__ import annotations

from typing import Final

from hostward.kube.answers import read_groups, read_plurals
from hostward.kube.client import Client
from hostward.kube.watching import Resource

_GROUPS: Final = "/apis"


def is_absent(client: Client, resource: Resource) -> bool:
    """True if a server that says it's ready names the resource in none of its versions. Raises ApiError where that isn't shown.

    Resources of the core group are never absent. Readiness comes first: until custom resource definitions are loaded, a server
    may neither serve nor name what they define.
    """
    paths = (resource.path, *resource.older)
    if not all(path.startswith(f"{_GROUPS}/") for path in paths):
        return False
    client.get("/readyz")
    groups = read_groups(client.get(_GROUPS))
    named = [path for path in paths if path.removeprefix(f"{_GROUPS}/") in groups]
    return all(resource.plural not in read_plurals(client.get(path)) for path in named)
