"""The thread that detects: takes frames, runs the detector and publishes the detections."""
