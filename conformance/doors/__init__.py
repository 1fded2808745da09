"""Doors: the command line, pytest, Python, and the process that a subject lives in."""
