"""A driver for the Chaos Toolkit: actions, probes, and a control, to be named in experiments."""
