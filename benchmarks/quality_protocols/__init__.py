"""What `benchmarks/quality.py` runs: protocols of the labelled data sets, methods, cache, and table."""
