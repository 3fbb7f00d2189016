"""Several engines working at the same time behind one Detector."""
