"""Track objects over consecutive images."""
