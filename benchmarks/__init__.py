"""Speed of the reference operators and of the judge: scripts that print tables."""
