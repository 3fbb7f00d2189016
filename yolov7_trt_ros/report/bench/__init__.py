"""A benchmark: measured, saved as JSON, shown as tables and a page."""
