"""Reports: what a run found, as values, as text and as programs that show it."""
