"""The reliability catalogue: what happens to a guarded host, and the figures that it must hold meanwhile.

`catalogue` lists every scenario with its gate and its tests; some are elsewhere in `tests`. Most run in two sizes: `short` in
`make test`, `full` in `make soak`. docs/reliability.md has the figures that were reached.
"""
