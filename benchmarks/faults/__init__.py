"""What happens to a store when things go wrong: run by hand, a few rounds of each in the suite."""
