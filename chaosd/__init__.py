"""Fault injection for Linux hosts, with everything put back afterwards."""

__version__ = "0.1.0"
