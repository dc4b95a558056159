"""One training from plan to end."""
