"""The verbs, one module each; its docstring is its help. Heavy imports inside functions."""
