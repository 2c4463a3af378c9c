"""Datasets: content-addressed versions with profile, schema and findings."""
