"""Measurements that docs/performance.md tells of."""
