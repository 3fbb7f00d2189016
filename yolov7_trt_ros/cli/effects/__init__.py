"""Options that would have no effect: which were given, and that they are told of."""
