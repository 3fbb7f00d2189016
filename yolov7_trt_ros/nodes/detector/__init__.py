"""The detector node and its parts."""
