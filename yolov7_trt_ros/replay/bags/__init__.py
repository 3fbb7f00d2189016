"""Bags without ROS: MCAP and SQLite files, read and written."""
