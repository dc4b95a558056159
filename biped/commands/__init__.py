"""Small commands of `python -m biped`, one file for each kind: doors, as the modules at the root."""

import argparse
from collections.abc import Callable

Run = Callable[[argparse.Namespace], int | None]
"""Carries out a command; it imports what it needs only when called."""
Add = Callable[[str, Run, str], argparse.ArgumentParser]
"""Adds a command by its name, what it does and what it says of itself; returns its parser, for its flags."""
