"""The layers that TensorRT built from a model, and their times."""
