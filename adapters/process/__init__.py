"""A subject in a process of its own: frames on pipes, the judge's side of them, and the worker."""
