"""The parts of updates.py: models good and bad, and the node with builds that only pretend."""
