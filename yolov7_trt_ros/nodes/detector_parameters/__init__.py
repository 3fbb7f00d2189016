"""The parameters of the detector node."""
