"""Protection of a training against bad minibatches: skipped steps, and a way back to good weights."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

TOLERATED_IN_A_ROW = 3
"""Number of consecutive skipped steps from which on the weights are considered bad."""


def make_skippable(optimizer: Optimizer) -> bool:
    """Switch Adam to torch's fused step, which a flag on the device can skip; return whether that was possible.

    Other optimizers stay unchanged: for them `StepGuard` reads the flag on the host.
    """
    if not isinstance(optimizer, Adam | AdamW):
        return False
    for group in optimizer.param_groups:
        group["fused"], group["foreach"] = True, False
        for parameter in group["params"]:
            state = optimizer.state.get(parameter)
            if state:  # a non-fused checkpoint has its step count on the host
                state["step"] = state["step"].to(parameter.device, torch.float32)
    return True


class StepGuard:
    """Takes optimizer steps, skips those with a non-finite loss or gradient, and counts these on the device."""

    def __init__(self, parameters: list[nn.Parameter], optimizer: Optimizer, device: torch.device) -> None:
        """Guard the steps of `optimizer` on `parameters`."""
        self._parameters, self._optimizer = parameters, optimizer
        self._fused = make_skippable(optimizer)
        self._skipped = torch.zeros((), device=device, dtype=torch.float32)
        self._in_a_row = torch.zeros((), device=device, dtype=torch.float32)
        self._longest = torch.zeros((), device=device, dtype=torch.float32)

    def step(self, loss: Tensor, max_grad_norm: float, allowed: Tensor) -> Tensor:
        """Clip the gradients and step, unless a value is not finite or `allowed` (a flag on the device) is False.

        Returns:
            A flag on the device: whether loss and gradients were finite.
        """
        norm = nn.utils.clip_grad_norm_(self._parameters, max_grad_norm)
        # 0 times a number is 0, unless the number is not finite.
        finite = (loss.detach() + norm) * 0.0 == 0.0
        take = finite & allowed
        skips = take < allowed
        self._skipped += skips
        self._in_a_row = (self._in_a_row + 1.0) * skips
        self._longest = torch.maximum(self._longest, self._in_a_row)
        if self._fused:
            optimizer: Any = self._optimizer
            optimizer.found_inf = (~take).float()  # the flag that torch's gradient scaler uses to skip
            optimizer.step()
            del optimizer.found_inf
        else:
            self._look_and_step(take)
        return finite

    def _look_and_step(self, take: Tensor) -> None:
        if bool(take):
            self._optimizer.step()

    def counts(self) -> Tensor:
        """Return (2,): number of skipped steps, and the longest run of consecutive ones."""
        return torch.stack((self._skipped, self._longest))


class LastGood:
    """Weights and optimizer states to return to: from the start of this update, and of the last good update.

    Only the latter are confirmed: they led to a whole update with finite losses.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._good: dict[str, Any] | None = None
        self._candidate: dict[str, Any] | None = None

    def note(self, module: nn.Module, optimizer: Optimizer) -> None:
        """Copy the state at the start of an update."""
        self._candidate = _copied({"module": module.state_dict(), "optimizer": optimizer.state_dict()})

    def confirm(self) -> None:
        """Mark the update as good: its start becomes the confirmed state."""
        self._good = self._candidate

    def restore(self, module: nn.Module, optimizer: Optimizer, *, confirmed: bool) -> None:
        """Restore the state at the start of this update, or the `confirmed` state if there is one."""
        copied = (self._good if confirmed else None) or self._candidate
        assert copied is not None, "nothing was noted"
        module.load_state_dict(copied["module"])
        optimizer.load_state_dict(_copied(copied["optimizer"]))  # copied because the optimizer keeps the given tensors


def _copied(value: Any) -> Any:
    """Return a copy of nested dictionaries, lists and tensors; copies are queued on the device, a kernel per type."""
    pairs: dict[Any, tuple[list[Tensor], list[Tensor]]] = {}
    copy = _with_room(value, pairs)
    for copies, originals in pairs.values():
        torch._foreach_copy_(copies, originals)  # pyright: ignore[reportPrivateImportUsage]
    return copy


def _with_room(value: Any, pairs: dict[Any, tuple[list[Tensor], list[Tensor]]]) -> Any:
    """Return a copy whose tensors have yet to be filled; note each, and what belongs there, in `pairs`."""
    if isinstance(value, Tensor):
        copies, originals = pairs.setdefault((value.device, value.dtype), ([], []))
        copies.append(torch.empty_like(value))
        originals.append(value)
        return copies[-1]
    if isinstance(value, dict):
        return {key: _with_room(entry, pairs) for key, entry in value.items()}
    return [_with_room(entry, pairs) for entry in value] if isinstance(value, list) else value
