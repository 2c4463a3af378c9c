"""Model versions, aliases with history, and the traffic rows."""
