"""Turn a user's words into work: one plain function per verb, each returning a frozen summary."""
