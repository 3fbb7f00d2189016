"""The parts of the verb `bench`."""
