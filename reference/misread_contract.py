"""Misreadings: contract."""
