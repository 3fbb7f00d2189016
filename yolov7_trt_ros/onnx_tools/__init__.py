"""What is known of ONNX files, and the doors to the packages onnx and ONNX Runtime."""
