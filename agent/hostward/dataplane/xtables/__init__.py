"""Tables of legacy iptables: read as one blob, recognised by content, edited through libiptc, one atomic commit at a time.

sockopt   the kernel's socket options: a table's blob, set names
layout    the binary layout of an entry; its content, apart from where it stands
blob      a table's blob cut into chains and entries (pure)
encode    a Rule as an entry; its parts compiled by `compat` and kept
compat    the only module that imports python-iptables; its faults fenced
selftest  the fences that protect the process itself, tried in a child
libiptc   one open table handle
snapshot  what a table last was; whether it still is
delta     the smallest change of a table that an edit asks for (pure)
restore   an edit as text for iptables-restore
lock      the xtables lock
tables    all of it together: XTables
other     whether the other iptables variant is in use
"""
