"""The CUDA device: its context, memory and kernels."""
