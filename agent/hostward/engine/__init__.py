"""The agent's one engine thread: takes batches, decides what is understood, calculates, and brings the kernel there."""
