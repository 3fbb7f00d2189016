"""What became of the layers of a model in a built engine."""
