"""A pyramid in storage: regions of its levels, its documents, its objects."""
