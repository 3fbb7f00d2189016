"""What a node process needs whichever node it runs: start, stop, signals, launch files."""
