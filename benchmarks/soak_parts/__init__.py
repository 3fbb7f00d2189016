"""Parts of soak.py: cameras, faults, the node under test and its accounts."""
