"""Displays and controls for users: plots, curves, films, pages, and live view and steering."""
