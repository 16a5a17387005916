"""The reconcile thread: takes what has come, decides, writes what differs, and tries again what failed.

It writes only while this process leads and the store says that it is ready, and never forgets what is left to do.
"""

from __future__ import annotations

import datetime
import threading
import time
import uuid
from collections.abc import Callable
from typing import Final

from hostward.controller.desired import decide
from hostward.controller.facts import CLUSTER, CONFIGURATION, Facts
from hostward.controller.inbox import Batch, Inbox
from hostward.controller.items import Document, Item, Stored, Write
from hostward.controller.rounds import Retries, emptied, ordered
from hostward.controller.stored import read_stored
from hostward.controller.telling import Teller
from hostward.datastore.etcd.errors import EtcdError, Trouble
from hostward.datastore.etcd.lease import Leadership
from hostward.datastore.store import (
    AlreadyExistsError,
    ConflictError,
    FencedError,
    NotFoundError,
    Store,
    StoreError,
)

TICK: Final = 1.0  # seconds between two looks at what nobody announces: leadership, retries
_STORE: Final = Item("", "", "store")
_SETTINGS: Final = Item(CONFIGURATION.kind, "", CONFIGURATION.name)


class Reconciler:
    """Owns the facts. `run` is the body of the thread; nothing else may be called from another."""

    def __init__(
        self,
        facts: Facts,
        inbox: Inbox,
        store: Store,
        leadership: Leadership,
        teller: Teller,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._facts, self._inbox, self._store, self._leadership, self._teller = facts, inbox, store, leadership, teller
        self._dirty: set[Item] = set()
        self._retries, self._outage = Retries(now), Retries(now)
        self._guid: object = None
        self._has_snapshot = False

    def run(self, stop: threading.Event) -> None:
        """Rounds until `stop` is set."""
        pause = 0.0
        while not stop.is_set():
            self._learn(self._inbox.take(pause))
            hindrance = self._hindrance()
            leads = self._leadership.fence() is not None
            writes = leads and not hindrance
            if writes:
                self._write(stop)
            pause = TICK
            if writes and not self._outage:
                pause = 0.0 if self._dirty else self._retries.pause(TICK)
            self._teller.round(hindrance=hindrance, leads=leads, pending=len(self._dirty), failing=len(self._retries))

    # --- learning
    def _learn(self, batch: Batch) -> None:
        facts = self._facts
        if batch.stored is not None:
            known = {key: read_stored(raw.value, raw.revision) for key, raw in batch.stored.present().items()}
            if batch.stored.whole:
                self._has_snapshot = True
                self._dirty |= facts.replace_stored(known)
            else:
                for key, raw in batch.stored.values.items():
                    held = facts.stored.get(key)
                    # What this process has written itself since is newer than what the feed tells now.
                    if raw is None or held is None or held.revision <= raw.revision:
                        self._dirty |= facts.change_stored(key, known.get(key))
            self._teller.problems(_SETTINGS, facts.node_settings.problems)
        for kind, pending in batch.objects.items():
            if pending.whole:
                self._dirty |= facts.replace(kind, pending.present())
            else:
                for name, value in pending.values.items():
                    self._dirty |= facts.change(kind, name, value)

    def _hindrance(self) -> str:
        """What is wrong with the store, so that nothing may be written to it; empty when nothing is."""
        if not self._has_snapshot or self._inbox.store.trouble:
            return f"etcd {self._inbox.store.trouble or 'is not read yet'}"
        if self._facts.cluster is None:
            return f"{CLUSTER} is missing: nobody has initialised this etcd; `hostward apply` or calicoctl does"
        spec = self._facts.cluster.get("spec")
        if not isinstance(spec, dict) or spec.get("datastoreReady") is not True:
            return f"{CLUSTER}: datastoreReady isn't true"
        self._guid = self._guid or spec.get("clusterGUID")
        if spec.get("clusterGUID") != self._guid:
            return f"{CLUSTER}: clusterGUID has changed: this may be another cluster's etcd; restart the controller if it isn't"
        return ""

    # --- writing
    def _write(self, stop: threading.Event) -> None:
        if self._outage and not self._outage.due():
            return
        items, self._dirty = self._dirty | self._retries.due(), set()
        decisions = {item: decide(self._facts, item) for item in items}
        for item, decision in decisions.items():
            self._teller.problems(item, decision.problems)
        tasks = ordered(decisions)
        for kind, count in emptied(tasks, self._facts.count).items():
            self._teller.emptied(kind, count)
        failed: set[Item] = set()
        for place, (item, write) in enumerate(tasks):
            if stop.is_set() or not self._carried_out(item, write, failed):
                left = {task.item for task in tasks[place:]}
                self._dirty |= left - failed
                failed |= left
                break
        for item in decisions.keys() - failed:
            self._retries.succeeded(item)

    def _carried_out(self, item: Item, write: Write, failed: set[Item]) -> bool:
        """Carries a write out, or notes that it failed; False when it's no use to go on with others."""
        try:
            revision = self._transact(write)
        except FencedError as error:
            self._leadership.deposed()
            self._teller.fenced(str(error))
            return False
        except (ConflictError, NotFoundError, AlreadyExistsError) as error:
            # What is there now comes by the feed, in order, and is decided about then: a read of our own could overtake it.
            self._teller.conflict(write, str(error))
            return True
        except StoreError as error:
            first = self._retries.failed(item)
            failed.add(item)
            self._teller.failed(write, str(error), first=first)
            return not self._is_outage(error)
        self._outage.succeeded(_STORE)
        self._teller.wrote(write)
        known = Stored(write.document, revision) if write.document is not None else None
        self._dirty |= self._facts.change_stored(write.key, known)
        return True

    def _transact(self, write: Write) -> int:
        if write.document is None:
            self._store.delete(write.key, write.revision)
            return 0
        if write.revision is None:
            return self._store.create(write.key, write.document)
        return self._store.update(write.key, _complete(write.document), write.revision)

    def _is_outage(self, error: StoreError) -> bool:
        """Whether etcd can't be reached at all: then everything waits together, not each object for itself."""
        if not isinstance(error, EtcdError) or error.trouble is not Trouble.UNREACHABLE:
            return False
        self._outage.failed(_STORE)
        return True


def _complete(document: Document) -> Document:
    """With what Calico's clients refuse to do without: a document that others stored may lack it, or be lost."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    metadata = {"uid": str(uuid.uuid4()), "creationTimestamp": now} | (document.get("metadata") or {})
    return {**document, "metadata": metadata}
