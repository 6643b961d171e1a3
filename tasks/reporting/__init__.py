"""What tasks show: artifacts, progress, events."""
