from typing import Any, ClassVar

class nlmsg(dict[str, Any]):  # values are what a message's own `fields` declare
    prefix: ClassVar[str]
    fields: ClassVar[tuple[tuple[str, str], ...]]
    nla_map: ClassVar[tuple[tuple[int, str, str], ...]]
    def __init__(self, data: bytes, offset: int = 0) -> None: ...
    def decode(self) -> None: ...
    def get_attr(self, attr: str, default: Any = None) -> Any: ...  # an attribute's type is what `nla_map` declares
