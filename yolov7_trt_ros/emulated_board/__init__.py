"""An emulated Jetson: a root folder with its files, and the power tools as real executables."""
