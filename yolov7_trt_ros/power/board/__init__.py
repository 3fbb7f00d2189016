"""Which board this is, and the files of its sensors."""
