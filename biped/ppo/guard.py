"""What keeps one bad minibatch from ending a training run: steps left out, and a way back to good weights."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

TOLERATED_IN_A_ROW = 3
"""Steps left out in a row from which on the weights are taken to be bad."""


def make_skippable(optimizer: Optimizer) -> bool:
    """Switch Adam to torch's fused step, which can be skipped by a flag on the device; say whether that was possible.

    Other optimizers are left as they are: for them `StepGuard` looks at the flag on the host.
    """
    if not isinstance(optimizer, Adam | AdamW):
        return False
    for group in optimizer.param_groups:
        group["fused"], group["foreach"] = True, False
        for parameter in group["params"]:
            state = optimizer.state.get(parameter)
            if state:  # the step count of a checkpoint that was not fused lies on the host
                state["step"] = state["step"].to(parameter.device, torch.float32)
    return True


class StepGuard:
    """Takes optimizer steps, leaves out those whose loss or gradient is not finite, and counts them on the device."""

    def __init__(self, parameters: list[nn.Parameter], optimizer: Optimizer, device: torch.device) -> None:
        """Watch the steps of `optimizer` on `parameters`."""
        self._parameters, self._optimizer = parameters, optimizer
        self._fused = make_skippable(optimizer)
        self._skipped = torch.zeros((), device=device, dtype=torch.float32)
        self._in_a_row = torch.zeros((), device=device, dtype=torch.float32)
        self._longest = torch.zeros((), device=device, dtype=torch.float32)

    def step(self, loss: Tensor, max_grad_norm: float, allowed: Tensor) -> Tensor:
        """Clip the gradients and step, unless something is not finite or `allowed` (a flag on the device) is False.

        Returns:
            A flag on the device: loss and gradients were finite.
        """
        norm = nn.utils.clip_grad_norm_(self._parameters, max_grad_norm)
        finite = loss.detach().isfinite() & norm.isfinite()
        self._skipped += ~finite & allowed
        self._in_a_row = torch.where(finite | ~allowed, 0.0, self._in_a_row + 1.0)
        self._longest = torch.maximum(self._longest, self._in_a_row)
        if self._fused:
            optimizer: Any = self._optimizer
            optimizer.found_inf = (~finite | ~allowed).float()  # torch's own seam: its gradient scaler skips so
            optimizer.step()
            del optimizer.found_inf
        else:
            self._look_and_step(finite & allowed)
        return finite

    def _look_and_step(self, take: Tensor) -> None:
        if bool(take):
            self._optimizer.step()

    def counts(self) -> Tensor:
        """Return (2,): steps left out so far, and the longest row of them."""
        return torch.stack((self._skipped, self._longest))


class LastGood:
    """Weights and optimizer states to go back to: what this update began with, and what the last good one did.

    Only the latter is confirmed: a whole update of finite losses has come out of it.
    """

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._good: dict[str, Any] | None = None
        self._candidate: dict[str, Any] | None = None

    def note(self, module: nn.Module, optimizer: Optimizer) -> None:
        """Copy what an update begins with."""
        self._candidate = _copied({"module": module.state_dict(), "optimizer": optimizer.state_dict()})

    def confirm(self) -> None:
        """The update was good: what it began with is what to come back to."""
        self._good = self._candidate

    def restore(self, module: nn.Module, optimizer: Optimizer, *, confirmed: bool) -> None:
        """Put back what this update began with, or what is `confirmed`, if anything is."""
        copied = (self._good if confirmed else None) or self._candidate
        assert copied is not None, "nothing was noted"
        module.load_state_dict(copied["module"])
        optimizer.load_state_dict(_copied(copied["optimizer"]))  # it would keep the tensors themselves


def _copied(value: Any) -> Any:
    """Return a copy of nested dictionaries, lists and tensors, queued on the device like any other work."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copied(entry) for key, entry in value.items()}
    return [_copied(entry) for entry in value] if isinstance(value, list) else value
