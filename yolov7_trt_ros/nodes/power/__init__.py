"""The power node and what works inside it."""
