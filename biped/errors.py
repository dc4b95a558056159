"""Errors that a person reads: one line, what is wrong and what to do.

The command line turns `UsageError` into exit code 2 and `MachineError` into exit code 1.
"""


class UsageError(Exception):
    """What was asked for cannot be done as asked."""


class MachineError(Exception):
    """What was asked for is fine; this machine, its disk or its packages are not."""
