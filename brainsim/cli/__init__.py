"""Turn argv into a verb's result on stdout, progress on stderr and an exit code; the only room that knows Rich."""
