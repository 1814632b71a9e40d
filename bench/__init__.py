"""Benchmarks; what was measured is in RESULTS.md."""
