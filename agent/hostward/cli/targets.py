"""What a command is about: resources that the command line or manifests name, and how they are found in the store.

Knows the rules for namespaces (`statements.md` C.3) and the word `policy` (D14). The commands' own thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import click

from hostward.cli import kinds as kind_words
from hostward.cli.failures import CommandError
from hostward.cli.lookup import find, find_anywhere
from hostward.cli.manifests import DEFAULT_NAMESPACE, load
from hostward.datastore.store import Found, Store
from hostward.model.keys import KINDS


class Target(NamedTuple):
    """A resource that was named: of one of these kinds, with this name. `revision` is "" or what its manifest demands.

    `of_kubernetes` says that it was named by an object of Kubernetes.

    With several kinds it's the one that exists, in whatever namespace.
    """

    kinds: tuple[str, ...]
    namespace: str
    name: str
    revision: str = ""
    of_kubernetes: bool = False


def kinds_of(word: str, namespace: str | None) -> tuple[str, ...]:
    """The kinds that a word means. Raises CommandError for an unknown word, and for -n with a kind that has no namespace."""
    kinds = kind_words.named(word, namespace)
    if kinds is None:
        raise CommandError(f"failed to execute command: {kind_words.unknown(word)}")
    if namespace and not KINDS[kinds[0]].namespaced:
        raise CommandError(
            f"failed to execute command: {kinds[0]} lives in no namespace, so -n {namespace} can't be meant for it"
        )
    return kinds


def by_name(word: str, names: Sequence[str], namespace: str | None) -> list[Target]:
    """The targets of KIND NAME...; namespaced kinds are sought in `default` unless -n says where. Raises CommandError."""
    kinds = kinds_of(word, namespace)
    if any(not name for name in names):
        raise click.UsageError("A NAME is empty.")
    where = namespace or DEFAULT_NAMESPACE if len(kinds) == 1 and KINDS[kinds[0]].namespaced else ""
    return [Target(kinds, where, name) for name in names]


def by_file(files: Sequence[str], namespace: str | None, *, recursive: bool, may_be_empty: bool = False) -> list[Target]:
    """The targets that manifests name, without tiers of Kubernetes' policies: others may be in them. Raises CommandError."""
    return [
        Target(
            (one.key.kind,),
            one.key.namespace,
            one.key.name,
            one.document["metadata"].get("resourceVersion", ""),
            one.of_kubernetes,
        )
        for one in load(files, namespace, recursive=recursive, may_be_empty=may_be_empty)
        if not (one.of_kubernetes and one.key.kind == "Tier")
    ]


def resolve(store: Store, target: Target) -> Found:
    """The stored resource that is meant. Raises NotFoundError, AmbiguousError, StoreError."""
    if len(target.kinds) > 1:
        return find_anywhere(store, target.kinds, target.name)
    return find(store, target.kinds[0], target.namespace, target.name)
