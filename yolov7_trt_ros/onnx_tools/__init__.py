"""Tools for ONNX files, and the interfaces to the packages onnx and ONNX Runtime."""
