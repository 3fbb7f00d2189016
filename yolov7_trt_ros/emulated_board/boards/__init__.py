"""The boards that can be emulated, as definitions."""
