"""Fuzzing of everything that reads bytes from strangers: coverage-guided, with the readers' promises as oracle."""
