"""TensorRT plans on disk: manifest, owner, and the machine that they fit."""
