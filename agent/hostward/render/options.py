"""What rendering takes from the settings. Pure values; any thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hostward.model.failsafe import FailsafePort
from hostward.render.marks import Marks
from hostward.render.ruleset import Family


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that the shape of the rules depends on beside the resolved state."""

    marks: Marks
    families: tuple[Family, ...] = (4, 6)
    workload_prefixes: tuple[str, ...] = ("cali",)
    forward_all: bool = True
    filter_allow: Literal["ACCEPT", "RETURN"] = "ACCEPT"
    mangle_allow: Literal["ACCEPT", "RETURN"] = "ACCEPT"
    filter_reject: bool = False
    drop_invalid: bool = True
    failsafe_in: tuple[FailsafePort, ...] = ()
    failsafe_out: tuple[FailsafePort, ...] = ()
    log_prefix: str = "calico-packet"
    log_limit: tuple[str, int] | None = None
    max_set_size: int = 1_048_576
