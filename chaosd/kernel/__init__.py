"""Reversible changes of kernel state: one file per kind of edit."""
