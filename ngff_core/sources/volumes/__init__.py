"""Plain volumes: MRC, NRRD, MetaImage, N5 and precomputed."""
