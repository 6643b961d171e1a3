"""Uploads in an inbox: new, complete, changed or failed ones, and storage's notifications."""
