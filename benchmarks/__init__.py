"""Benchmarks: ratios to a floor that is measured in the same run. docs/performance.md says what they show.

`python -m benchmarks` runs them all, `--quick` a tiny repetition of each. Needs root; works in namespaces of its own.
"""
