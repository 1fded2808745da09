"""The teeth: every known misreading run as a subject, and what a diagnosis says of it."""
