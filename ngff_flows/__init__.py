"""The application: command line, receiver of notifications, demo."""
