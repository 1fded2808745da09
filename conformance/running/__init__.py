"""Running: a subject is taken through its laws, in this process or in several."""
