"""NIfTI, Analyze, MGH and MINC, which place a volume in a body by an affine."""
