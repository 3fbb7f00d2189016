"""Many recordings in one command, one after the other or on Dask."""
