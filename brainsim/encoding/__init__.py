"""Turn kernels and BOLD into cross-validated scores, per band and per target."""
