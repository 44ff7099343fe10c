"""The scheduler under a virtual clock: drawn scenarios, and laws that hold in each of them."""
