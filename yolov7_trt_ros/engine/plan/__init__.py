"""TensorRT plans on disk: manifest, owner, what they fit."""
