"""Misreadings: convolution."""
