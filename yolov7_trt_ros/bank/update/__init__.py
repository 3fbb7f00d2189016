"""One engine in place of another between two frames: shadow, promotion, roll-back."""
