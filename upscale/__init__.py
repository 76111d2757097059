"""Image super-resolution for the shell and for Python."""

__version__ = "0.1.0"
