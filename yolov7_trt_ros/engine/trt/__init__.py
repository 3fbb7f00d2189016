"""The only interface to TensorRT 8.5, 8.6, 10, 11 and TensorRT-RTX: run, build, refit."""
