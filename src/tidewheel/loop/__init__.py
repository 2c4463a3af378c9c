"""Triggers, policy and the conductor's tick."""
