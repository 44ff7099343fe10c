"""The trainer: data, networks, the loop, and the export of proven bundles."""
