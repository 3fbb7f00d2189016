"""YOLOv7 in deploy form: layer table, weights, torch modules."""
