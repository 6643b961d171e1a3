"""The command line `ngff-flows`."""
