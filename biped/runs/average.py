"""The mean of a run's last checkpoints, which usually walks better than the last one.

With a constant learning rate the weights end up moving around an optimum, and their mean is nearer to it (Polyak and
Juditsky 1992; Izmailov et al. 2018, arXiv:1803.05407, section 3).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from biped.base.errors import UsageError, disk_error
from biped.runs.checkpoint import CheckpointError, copy_with_policy, read_checkpoint
from biped.runs.directory import RunDirectory, steps_in_name
from biped.runs.models import make_way

LAST = 5
"""Number of checkpoints to average by default: as many as a run keeps."""


def mean_weights(policies: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of each parameter; values that are not floating-point numbers come from the last policy.

    Raises:
        ValueError: the policies have different shapes.
    """
    newest = policies[-1]
    shapes = [{name: value.shape for name, value in policy.items()} for policy in policies]
    if any(shape != shapes[-1] for shape in shapes):
        raise ValueError("the policies are not of one shape")
    return {
        name: torch.stack([policy[name].double() for policy in policies]).mean(dim=0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in newest.items()
    }


def average_run(run: RunDirectory, last: int = LAST) -> tuple[Path, list[Path]]:
    """Write average_model.zip into a run's directory; return its path and the averaged checkpoints, oldest first.

    Raises:
        UsageError: the run has fewer checkpoints, or one is damaged or belongs to another network.
        MachineError: the disk refuses the write.
    """
    if not (run.path / "config.json").is_file():
        raise UsageError(f"there is no run in {run.path}: name a run's folder, such as logs/walk")
    found = run.checkpoints()[:last][::-1]
    if len(found) < last:
        raise UsageError(f"{run.path} holds {len(found)} checkpoints: train on, or use --last {max(1, len(found))}")
    try:
        weights = mean_weights([read_checkpoint(path).policy for path in found])
    except CheckpointError as error:
        raise UsageError(f"{error}: use a smaller --last") from error
    except ValueError as error:
        raise UsageError(f"the last {last} checkpoints are of different networks: use a smaller --last") from error
    try:
        make_way(run.average_model, steps_in_name(found[-1]))
        copy_with_policy(found[-1], run.average_model, weights)
    except OSError as error:
        raise disk_error(run.average_model, error, "copy of the run") from error
    return run.average_model, found
