"""Write networks as ONNX and verify them."""
