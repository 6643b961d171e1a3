"""Measurements: of pyramids side by side with other tools, of kernels, of compressors."""
