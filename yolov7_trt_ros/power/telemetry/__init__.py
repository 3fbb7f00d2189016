"""Telemetry of a machine: power, loads and temperatures."""
