"""Measures, printed as ratios in one run."""
