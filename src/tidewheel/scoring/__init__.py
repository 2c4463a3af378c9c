"""Scoring without a server: in this process, over files, on Ray, ahead of time."""
