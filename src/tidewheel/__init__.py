"""tidewheel."""
