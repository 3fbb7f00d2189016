"""Second looks: detect in crops or tiles of a frame as well as in the whole frame."""
