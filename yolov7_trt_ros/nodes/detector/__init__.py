"""The detector node and what works inside it."""
