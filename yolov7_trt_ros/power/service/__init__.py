"""The power service of a host, for programs in containers."""
