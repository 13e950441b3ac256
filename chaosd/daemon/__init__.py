"""The service: an HTTP API on a Unix socket, over the same engine that the command line uses."""
