"""One file for each released library: its wrappers, and its known limits as a table."""
