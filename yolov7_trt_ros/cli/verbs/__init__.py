"""One file a verb; its docstring is the help. Heavy imports inside functions."""
