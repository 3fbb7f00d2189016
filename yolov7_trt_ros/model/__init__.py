"""PyTorch and ONNX tools that create and change models; not needed on the robot."""
