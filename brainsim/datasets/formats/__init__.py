"""Turn one way of keeping runs each into sources: every module here has a FORMAT, and is listed nowhere."""
