import ctypes
from typing import Any

_xt_globals: Any
_lib_xtwrapper: ctypes.CDLL
_EXIT_FN: Any

class XTablesError(Exception): ...
