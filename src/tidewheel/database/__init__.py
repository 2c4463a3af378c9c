"""Connect, transact, migrate."""
