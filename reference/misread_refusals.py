"""Misreadings: refusals."""
