"""PyTorch checkpoints read without running anything that is in them."""
