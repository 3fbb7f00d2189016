"""Choose channels, cut them out, and fit the network again."""
