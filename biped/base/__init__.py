"""One-line errors, exit codes, signals, files written whole or not at all, threads, and what this machine has."""
