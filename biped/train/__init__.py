"""A training, from plan to end."""
