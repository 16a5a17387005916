"""The only code that touches the kernel: tables, sets, links, conntrack; the plan that leads there; a strict fake."""
