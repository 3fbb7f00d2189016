"""TensorRT plans on disk: manifest, cache, owner, refit."""
