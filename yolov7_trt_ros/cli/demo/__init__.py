"""The parts of the verb `demo`."""
