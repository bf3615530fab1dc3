"""The judge: verdicts on a table of results that other tools made, by the same statistics."""
