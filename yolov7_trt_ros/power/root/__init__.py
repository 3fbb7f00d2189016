"""What needs root: tools, files below /sys, and the lines of sudoers for them."""
