"""Models: what one is (manifest), where it lies (store), how it gets there (publish, import)."""
