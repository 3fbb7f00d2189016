"""Image topics: from the subscription to the next frame for the worker."""
