"""Changes of a board: recorded before they are made, and restored later."""
