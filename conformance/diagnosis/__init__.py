"""Diagnosis: which misreading, or else which condition, explains what a subject answered."""
