"""Faults and abuse: what the server does then, as figures with goals.

Each module can be run by itself, such as ``python -m tests.faults.f10_drain``; `make faults` runs
all of them.
"""
