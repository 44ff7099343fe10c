"""The networks, with shapes in comments."""
