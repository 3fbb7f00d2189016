"""Tools for ONNX files, and the interfaces to the packages onnx and ONNX Runtime."""

import os

# ONNX Runtime reads it when it is imported: from 1.32 it would send its maker what it runs
os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')
