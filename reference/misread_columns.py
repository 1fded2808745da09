"""Misreadings: columns."""
