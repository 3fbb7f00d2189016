"""Channels chosen, cut out, and the network fitted again."""
