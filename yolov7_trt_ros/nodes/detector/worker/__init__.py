"""The thread that takes frames, runs the detector and publishes the detections."""
