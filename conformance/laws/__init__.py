"""Laws: executable properties that the clauses of the standard imply, and the index of them all."""
