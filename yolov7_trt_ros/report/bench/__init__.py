"""A benchmark: measured, kept as JSON, shown as tables and a page."""
