"""Replace an engine between two frames: shadow run, promotion, roll-back."""
