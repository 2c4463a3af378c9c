"""Windows, drift, decay and alerts."""
