"""The GPU path: from the bytes of an image to detections."""
