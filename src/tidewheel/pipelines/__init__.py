"""Steps and pipelines to journaled runs."""
