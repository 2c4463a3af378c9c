"""The main job on real data, with real processes over HTTP."""
