"""Nodes beside the detector: a camera made of recordings, a recorder, the live view."""
