"""Classy."""
