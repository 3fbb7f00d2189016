"""How TensorRT fused the layers of a model in a built engine."""
