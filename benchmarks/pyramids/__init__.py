"""What `benchmarks/bench.py` is made of: images, contest, running, results."""
