"""Parts of the verb `bench`: rows, pictures, power, processes."""
