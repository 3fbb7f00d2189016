"""Compare the detections of two runs on one recording."""
