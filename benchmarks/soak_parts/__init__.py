"""The parts of soak.py: cameras, faults, the node under test and what is counted of it."""
