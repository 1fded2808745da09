"""Misreadings: pooling."""
