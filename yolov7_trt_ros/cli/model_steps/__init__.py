"""The steps of the verbs that make models: export, quantize, prune, build."""
