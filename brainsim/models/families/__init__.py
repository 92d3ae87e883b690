"""One file per family: `ROWS`, a tuple of ModelRow, and the function that their `load` names. A new file is found."""
