"""Steps for the common work, one file each, to be called from a pipeline or read and copied."""
