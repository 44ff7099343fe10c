"""Faults that are done to a real server, one script each; each prints its figures as JSON."""
