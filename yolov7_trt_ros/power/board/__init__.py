"""Which board this is, and where it keeps what it tells of itself."""
