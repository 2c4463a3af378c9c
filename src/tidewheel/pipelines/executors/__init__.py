"""Where steps are executed: in this process, or in children of it."""
