import ctypes

from iptc.ip4tc import Rule

_libiptc: ctypes.CDLL

class Rule6(Rule): ...
