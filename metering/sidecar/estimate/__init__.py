"""Counting what nobody reported: a process of its own, because vocabularies take 100 MB."""
