"""Subjects: how the judge calls them, watches them, and keeps them apart from itself."""
