"""Stored values that are broken in every way: C1. (What may still be believed of them: tests/unit/test_decode_properties.)"""

from __future__ import annotations

import http.client
import json
import random
from base64 import b64encode

import pytest

from hostward.model import keys
from hostward.model.decode import decode
from hostward.model.resources import Policy
from tests.e2e import documents as d
from tests.e2e.conftest import GUARDED, Site, start_guarding
from tests.lab.figures import Figures, sizes
from tests.reliability.corruption import damaged
from tests.unit.test_convert_validate import DOCUMENTS
from tests.unit.test_decode_properties import check

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
SEED = 20261127
PACK = 50  # objects written at one revision
GUARDING = (d.policy_key("web"), d.policy_key("friends"), d.policy_key("early"), d.set_key("friends"), d.endpoint_key("w0"))


@sizes("cases", short=3_000, full=100_000)
def test_c1_any_damage_is_a_value(figures: Figures, cases: int) -> None:
    """Decoding never raises, and what comes of it is something that a kernel accepts."""
    rng = random.Random(SEED)
    not_understood = 0
    for number in range(cases):
        document = DOCUMENTS[number % len(DOCUMENTS)]
        where = "n" if document["metadata"].get("namespace") else ""
        decoded = decode(keys.ResourceKey(document["kind"], where, document["metadata"]["name"]), damaged(document, rng))
        check(decoded)
        not_understood += bool(decoded.problems)
    assert not_understood > cases / 3
    figures.tell("C1", "values decoded", cases)
    figures.tell("C1", "of these not understood", not_understood)
    figures.tell("C1", "exceptions", 0)


@sizes("packs", short=5, full=200)
def test_c1_damage_stays_where_it_is(site: Site, figures: Figures, packs: int) -> None:
    """Written over what guards eth0: nothing moves there. About eth1, where nothing older is known: nothing opens."""
    start_guarding(site)
    other = d.endpoint("w1", "eth1")
    other["metadata"]["labels"] = {"role": "other"}
    site.agent.wait_applied(site.etcd.put(d.endpoint_key("w1"), other))
    rng = random.Random(SEED)
    good = {key: json.loads(site.etcd.get(key) or b"") for key in GUARDING}
    for number in range(packs):
        pack = {key: broken(key, document, rng) for key, document in good.items()}
        for beside in range(PACK - len(pack)):
            document = d.policy(f"beside{beside}", beside, [d.to_ports("Allow", [80, 81, 82], "TCP")])
            document["spec"]["selector"] = "role == 'other'"
            key = d.policy_key(f"beside{beside}")
            pack[key] = broken(key, document, rng)
        site.agent.wait_applied(put_all(site, pack))
        told = site.agent.status()["setAside"]
        assert {line["key"] for line in told if line["olderInForce"]} == {str(keys.parse(key)) for key in GUARDING}
        assert {line["key"] for line in told} == {str(keys.parse(key)) for key in pack}
        assert site.reached() == GUARDED, f"pack {number}: {pack}"
        assert site.reached(1) == {"v4": (22,), "v6": (22,)}, f"pack {number}: {pack}"
    assert site.agent.health("readiness")[0] == 200
    assert site.agent.metric("hostward_objects_set_aside") == PACK
    assert {str(keys.parse(key)) for key in pack} <= {line.get("key") for line in site.agent.log_lines()}
    assert not [line for line in site.agent.log_lines() if line.get("raw") or line["level"] in ("error", "critical")]
    figures.tell("C1", "broken objects given to an agent", packs * PACK)
    figures.tell("C1", "of these that changed what others do, or opened a port", 0)


def broken(key: str, document: d.Document, rng: random.Random) -> bytes:
    """Damage after which the document isn't wholly understood, and doesn't mean other endpoints."""
    parsed = keys.parse(key)
    assert parsed is not None
    while True:
        value = damaged(document, rng)
        decoded = decode(parsed, value)
        same = not isinstance(decoded.value, Policy) or decoded.value.selector == document["spec"]["selector"].replace("'", '"')
        if decoded.problems and same:
            return value


def put_all(site: Site, values: dict[str, bytes]) -> int:
    """Writes any bytes at one revision, which it returns, through etcd's JSON gateway."""
    puts = [
        {"requestPut": {"key": b64encode(key.encode()).decode(), "value": b64encode(value).decode()}}
        for key, value in values.items()
    ]
    connection = http.client.HTTPConnection("127.0.0.1", site.etcd.port, timeout=20)
    try:
        with site.worker.entered():
            connection.request("POST", "/v3/kv/txn", json.dumps({"success": puts}))
            return int(json.load(connection.getresponse())["header"]["revision"])
    finally:
        connection.close()
