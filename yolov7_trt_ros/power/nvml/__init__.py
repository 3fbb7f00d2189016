"""The GPU of a PC, through NVML."""
