"""The parts of the verb `power`."""
