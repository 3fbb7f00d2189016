"""The power node and its parts."""
