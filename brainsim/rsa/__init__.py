"""Turn kernels and BOLD into dissimilarity matrices, similarities, ceilings and combined scores."""
