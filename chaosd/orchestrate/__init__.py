"""Many runs: suites, the monkey and schedules. Each run is an ordinary one, one at a time."""
