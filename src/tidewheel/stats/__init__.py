"""Pure numbers: profiles, divergences, bootstraps and sequential tests."""
