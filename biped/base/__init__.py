"""One-line errors, exit codes, signals, atomic file writes, background threads, and a description of this machine."""
