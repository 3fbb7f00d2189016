"""Build a TensorRT plan from an ONNX model."""
