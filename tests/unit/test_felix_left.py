"""Whether ours stand first where they are needed: then only what Felix left may go (`hostward cleanup --felix`)."""

from __future__ import annotations

import pytest

from hostward.dataplane import felix
from hostward.dataplane.felix import Place

FILTER = (
    ":INPUT ACCEPT [0:0]",
    ":FORWARD ACCEPT [0:0]",
    ":OUTPUT ACCEPT [0:0]",
    ":cali-INPUT - [0:0]",
    ":hw-INPUT - [0:0]",
    ":hw-FORWARD - [0:0]",
    ":hw-OUTPUT - [0:0]",
    "-A INPUT -j cali-INPUT",
    "-A INPUT -j hw-INPUT",
    "-A FORWARD -j hw-FORWARD",
    "-A FORWARD -i cali+ -m comment --comment hw:accepted-by-policy -j ACCEPT",
    "-A OUTPUT -j hw-OUTPUT",
)
POSTROUTING = "-A POSTROUTING -m mark --mark 0x10000000/0x10000000 -m conntrack --ctstate DNAT -j hw-POSTROUTING"


@pytest.mark.parametrize(
    ("table", "lines", "unhooked"),
    [
        ("filter", FILTER, set()),
        ("filter", FILTER[:-1], {"OUTPUT"}),
        ("filter", [line for line in FILTER if "OUTPUT" not in line], set()),  # without a host endpoint there is none
        ("filter", [line for line in FILTER if "FORWARD -j" not in line], {"FORWARD"}),
        ("filter", FILTER[:3], {"INPUT", "FORWARD"}),
        ("filter", [*FILTER[:8], "-A INPUT -p tcp -j ACCEPT", *FILTER[8:]], {"INPUT"}),
        ("mangle", [":hw-POSTROUTING - [0:0]", POSTROUTING], set()),
        ("mangle", [":hw-POSTROUTING - [0:0]"], {"POSTROUTING"}),
        ("mangle", [], set()),
        ("raw", [":hw-wl-raw - [0:0]", "-A PREROUTING -i cali+ -m rpfilter --invert --validmark -j hw-wl-raw"], set()),
        ("raw", [":hw-PREROUTING - [0:0]"], {"PREROUTING"}),
    ],
)
def test_where_ours_do_not_stand_first(
    monkeypatch: pytest.MonkeyPatch, table: str, lines: list[str], unhooked: set[str]
) -> None:
    saved = {Place("legacy", 4, name): list(FILTER) if name == "filter" else [] for name in felix.TABLES}
    saved[Place("legacy", 4, table)] = list(lines)
    monkeypatch.setattr(felix, "_saved", lambda _: saved.items())
    monkeypatch.setattr(felix, "_run", lambda *_: "")
    assert set(felix.look((4,)).unhooked) == {f"{chain} of {table}/v4" for chain in unhooked}
