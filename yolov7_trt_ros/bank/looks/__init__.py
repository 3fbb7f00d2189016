"""Looking twice: crops or tiles of a frame beside the whole of it."""
