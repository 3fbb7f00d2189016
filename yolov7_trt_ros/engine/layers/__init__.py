"""The layers that TensorRT made of a model, and their times."""
