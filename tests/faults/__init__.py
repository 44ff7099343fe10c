"""Faults done to a real server, each a script that prints its figure: ``python -m tests.faults.f46``."""
