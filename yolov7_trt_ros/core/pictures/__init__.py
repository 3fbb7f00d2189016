"""Read the headers of picture files before decoding."""
