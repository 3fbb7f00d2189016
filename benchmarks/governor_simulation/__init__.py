"""A detector on a simulated board, to evaluate governors; used by governor.py and the tests."""
