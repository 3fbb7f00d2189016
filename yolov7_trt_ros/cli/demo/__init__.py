"""Parts of the verb `demo`: source, start-up, run, summary."""
