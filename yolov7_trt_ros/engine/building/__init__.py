"""From an ONNX model to a TensorRT plan."""
