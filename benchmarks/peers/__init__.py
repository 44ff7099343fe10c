"""One module a server: how it is set up, as its own documentation advises."""
