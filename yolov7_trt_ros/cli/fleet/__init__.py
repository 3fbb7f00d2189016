"""Many recordings by one command, in turn or on Dask."""
