# python-iptables 1.2.0 has no types. Only what hostward.dataplane.xtables.compat uses.
from iptc.ip4tc import IPTCError as IPTCError
from iptc.ip4tc import Match as Match
from iptc.ip4tc import Rule as Rule
from iptc.ip4tc import Target as Target
from iptc.ip6tc import Rule6 as Rule6
