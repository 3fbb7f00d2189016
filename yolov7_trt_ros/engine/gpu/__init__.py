"""From the bytes of an image to detections on the GPU."""
