"""Which kind of YOLOv7 export a model is, from its tensors and from the numbers it gives."""
