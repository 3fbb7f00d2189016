"""Parts of updates.py: good and bad models, and the node with simulated builds."""
