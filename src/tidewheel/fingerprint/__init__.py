"""Digests of code, values and environments."""
