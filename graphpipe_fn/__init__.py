"""GraphPipe for functions."""
