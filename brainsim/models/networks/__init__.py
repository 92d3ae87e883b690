"""Networks that no installed library has: the flow network, the tubelet transformer, masks."""
