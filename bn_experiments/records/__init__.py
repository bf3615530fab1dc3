"""Records: the files of a run, which are written whole and read back."""
