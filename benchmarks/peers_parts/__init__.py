"""The peers that peers.py compares: what runs them, and what asks those of another interpreter."""
