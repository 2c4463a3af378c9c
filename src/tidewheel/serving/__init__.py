"""Answer predictions."""
