"""ONNX files and ONNX Runtime: one door to each, for the engine, the model tools and reports."""
