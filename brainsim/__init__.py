"""What each family of vision models explains in each place of the visual brain, and what they share."""
