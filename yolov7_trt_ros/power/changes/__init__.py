"""Changes of a board that are recorded before they are made, and put back."""
