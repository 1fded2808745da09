"""Inference: an adapter found by experiment, for a homework that has none."""
