"""Turn folders of videos into checkpoints of the systems that have no public weights."""
