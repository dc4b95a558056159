"""Python imports this when it starts, if its folder is on PYTHONPATH."""

import gpu_machine  # noqa: F401
