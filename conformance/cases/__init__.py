"""Cases: geometries, what they are filled with, and what the standard answers."""
