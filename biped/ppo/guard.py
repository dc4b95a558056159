"""What keeps one bad minibatch from ending a training run: skipped steps, and a way back to good weights."""

import copy

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
        self._skipped = torch.zeros((), device=device)
        self._in_a_row = torch.zeros((), device=device)
        self._longest = torch.zeros((), device=device)

    def step(self, loss: Tensor, max_grad_norm: float, *, allowed: Tensor | None = None) -> None:
        """Clip the gradients and step, unless something is not finite or `allowed` (a flag on the device) is False."""
        norm = nn.utils.clip_grad_norm_(self._parameters, max_grad_norm)
        finite = loss.detach().isfinite() & norm.isfinite()
        self._skipped += ~finite
        self._in_a_row = torch.where(finite, 0.0, self._in_a_row + 1.0)
        self._longest = torch.maximum(self._longest, self._in_a_row)
        take = finite if allowed is None else finite & allowed
        if self._fused:
            self._optimizer.found_inf = (~take).float()  # pyright: ignore[reportAttributeAccessIssue] - torch's own seam
            self._optimizer.step()
        elif bool(take):
            self._optimizer.step()

    def counts(self) -> Tensor:
        """Return (2,): steps left out so far, and the longest row of them."""
        return torch.stack((self._skipped, self._longest))


class LastGood:
    """A copy of the weights and the optimizer's state from before things went wrong."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._weights: dict[str, Tensor] | None = None
        self._optimizer: dict | None = None

    @property
    def is_empty(self) -> bool:
        """Nothing was kept yet."""
        return self._weights is None

    def keep(self, module: nn.Module, optimizer: Optimizer) -> None:
        """Copy what there is now, over the copy before."""
        state = module.state_dict()
        if self._weights is None:
            self._weights = {name: value.clone() for name, value in state.items()}
        else:
            for name, value in state.items():
                self._weights[name].copy_(value)
        self._optimizer = copy.deepcopy(optimizer.state_dict())

    def restore(self, module: nn.Module, optimizer: Optimizer) -> None:
        """Put the copy back; the learning rate stays what it is."""
        assert self._weights is not None and self._optimizer is not None, "nothing was kept"
        rates = [group["lr"] for group in optimizer.param_groups]
        module.load_state_dict(self._weights)
        optimizer.load_state_dict(copy.deepcopy(self._optimizer))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
