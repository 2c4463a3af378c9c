"""Decide traffic by evidence."""
