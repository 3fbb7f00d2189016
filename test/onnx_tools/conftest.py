"""The tiny models of onnx_models.py as a fixture."""

from onnx_models import build

__all__ = ['build']
