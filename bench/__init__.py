"""The project's measurements: see README.md."""
