"""Read PyTorch checkpoints without running anything in them."""
