"""Labels, and the average precision of a detector on them."""
