"""The CUDA device: its context, memory, kernels and uploads."""
