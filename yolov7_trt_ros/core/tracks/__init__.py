"""Which detections of following images are one object."""
