"""Score, slice, compare and gate."""
