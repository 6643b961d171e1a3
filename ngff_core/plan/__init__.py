"""Planning: what is built, how it is cut, in which order, and what it costs. No I/O."""
