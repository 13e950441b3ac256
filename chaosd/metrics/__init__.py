"""What chaosd tells Prometheus."""
