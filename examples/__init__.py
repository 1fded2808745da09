"""Homework in the styles that courses use, each plugged in in about ten lines; some with a true defect."""
