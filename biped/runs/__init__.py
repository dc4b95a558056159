"""What a run leaves: its directory, checkpoints, numbers, and where they are sent."""
