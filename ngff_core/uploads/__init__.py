"""Uploads: what is new, complete, changed or failed in an inbox, and notifications of it."""
