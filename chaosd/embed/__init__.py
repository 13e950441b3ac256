"""Runs of a Python program's own: ``import chaosd``; each is done by another process."""
