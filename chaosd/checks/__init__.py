"""Measurements of the target or host, one kind a file, and the thresholds that end a run."""
