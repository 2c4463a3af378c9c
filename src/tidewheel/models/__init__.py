"""Model bundles: signature, formats, baseline, golden samples."""
