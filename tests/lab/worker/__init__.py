"""A program that acts inside one network namespace for the lab: `python -m tests.lab.worker`. Standard library only."""
