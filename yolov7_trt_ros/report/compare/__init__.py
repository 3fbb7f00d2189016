"""The detections of two runs over one recording, compared."""
