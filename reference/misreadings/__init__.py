"""Misreadings: the steps that they twist, the catalogue, and one file for each page of `spec/`."""
