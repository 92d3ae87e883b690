"""Turn results into drawings: an SVG, its alt text and the numbers it shows."""
