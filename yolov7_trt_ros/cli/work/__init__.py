"""Saved work of verbs, so that an interrupted run continues; the record of own files."""
