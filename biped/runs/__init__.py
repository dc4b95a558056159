"""Files and records of a run: its directory, checkpoints and metrics, and the services they are sent to."""
