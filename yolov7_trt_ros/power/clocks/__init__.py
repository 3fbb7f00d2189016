"""Clocks of the GPU, the CPU and the memory: caps, holds, jetson_clocks."""
