"""Maintenance of pyramids that are built: status, verification, repair, clean-up."""
