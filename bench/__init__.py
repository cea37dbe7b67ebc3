"""Measuring Spread daemons side by side: ``python -m bench --help``."""
