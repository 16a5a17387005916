"""The vocabulary: resources, rules, selectors, keys. Values and pure functions; no I/O, threads, clocks or logs."""
