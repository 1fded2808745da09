"""Misreadings: window."""
