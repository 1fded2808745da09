"""The matrix of operators × backends, and the ledger of their divergences."""
