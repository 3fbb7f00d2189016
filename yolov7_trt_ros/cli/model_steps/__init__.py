"""Steps of the verbs that make models: checkpoints, quantize, prune, scores."""
