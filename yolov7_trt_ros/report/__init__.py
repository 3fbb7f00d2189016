"""What was found and how long it took: overlays, latency, average precision."""
