"""A detector on a simulated board, for judging governors; used by governor.py and the tests."""
