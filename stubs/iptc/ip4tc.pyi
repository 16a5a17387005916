import ctypes
from typing import Any

_libiptc: ctypes.CDLL

class IPTCError(Exception): ...

class Rule:
    nfproto: int
    entry: Any
    tables: Any
    def get_ip(self) -> Any: ...

class IPTCModule:
    size: int
    _ptr: Any
    def _parse(self, argv: ctypes.Array[ctypes.c_char_p], inv: ctypes.c_int, entry: Any) -> None: ...
    def _final_check(self) -> None: ...
    def reset(self) -> None: ...

class Match(IPTCModule):
    def __init__(self, rule: Rule, name: str | None = ..., match: Any = ..., revision: int | None = ...) -> None: ...

class Target(IPTCModule):
    def __init__(
        self, rule: Rule, name: str | None = ..., target: Any = ..., revision: int | None = ..., goto: bool | None = ...
    ) -> None: ...
