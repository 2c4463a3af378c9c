"""The prediction log and its outcomes."""
