"""TIFF in all its kinds: which images a file holds, their axes, and what its metadata mean."""
