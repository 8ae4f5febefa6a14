"""Pictures for the tests: written byte by byte from known arrays, so that no decoder is its own reference."""
