"""What an image is: its axes, orientation, scale and metadata."""
