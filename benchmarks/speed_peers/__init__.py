"""What `benchmarks/speed.py` measures: our path, the models beside it, and peers in environments of their own."""
