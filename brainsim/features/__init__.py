"""Turn activations into TR-aligned blocks, bands and kernels."""
