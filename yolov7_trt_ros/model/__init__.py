"""Torch and ONNX tools that make and change models; nothing of it runs on the robot."""
