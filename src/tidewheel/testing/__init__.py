"""Conformance suites and in-memory twins of every seam."""
