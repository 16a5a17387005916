"""The story with real packets: `python -m demo`, or `make demo`."""
