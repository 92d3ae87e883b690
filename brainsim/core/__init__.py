"""Words that every room shares: errors, checks, names, time, runs, seeds, provenance and progress."""
