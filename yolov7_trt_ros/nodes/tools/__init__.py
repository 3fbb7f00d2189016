"""Nodes beside the detector: a camera from recordings, a recorder, the live view."""
