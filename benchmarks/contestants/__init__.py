"""One module per tool: each does one timed job in a process of its own (see `harness`)."""
