"""What every node process needs: start, stop, signals, launch files."""
