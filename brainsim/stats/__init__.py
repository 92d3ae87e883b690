"""Turn per-subject results into intervals, p values and corrections."""
