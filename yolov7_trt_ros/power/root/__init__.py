"""Actions that need root: tools, files below /sys, and the sudoers lines for them."""
