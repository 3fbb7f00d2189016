"""Networks written as ONNX, and checked."""
