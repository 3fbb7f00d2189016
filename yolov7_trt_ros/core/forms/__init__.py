"""Recognise the kind of a YOLOv7 export from its tensors and its output values."""
