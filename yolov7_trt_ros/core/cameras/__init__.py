"""Whether a camera is frozen, dark, over-exposed or late."""
