"""Several engines at work at once, behind one Detector."""
