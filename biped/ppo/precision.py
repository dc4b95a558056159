"""Precision of the networks, and a test of whether this machine supports it, because no list of machines is complete.

On a CPU the bfloat16 LSTM is oneDNN's, which lacks it for some instruction sets (such as AVX2 without AVX-512). A GPU
before Ampere only emulates bfloat16, which is slower than single precision. On a GPU autocast runs an LSTM in float16,
whatever is asked for, and gradients below 6e-8 become zero; so there `run_lstm` leaves autocast and casts. cuDNN has
bfloat16 LSTMs since 9.13 (pytorch/pytorch#164411); with an older one torch runs cell by cell.
"""

import sys
from typing import Literal

import torch
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from torch import Tensor, nn

Precision = Literal["fp32", "bf16"]
"""Precision of the networks up to their heads; heads, probabilities and losses are always fp32."""

_TRIED_STEPS, _TRIED_SEQUENCES = 2, 2


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context for running networks in a precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def run_lstm(
    lstm: nn.LSTM, sequences: Tensor, state: tuple[Tensor, Tensor] | None, precision: Precision
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Run an LSTM under `autocast` of a precision, in that precision.

    Args:
        lstm: the LSTM, of weights in float32.
        sequences: (length, n_sequences, lstm.input_size).
        state: hidden and cell state at the start, (layers, n_sequences, lstm.hidden_size) each; None: zeros.
        precision: what it runs in; on a CPU autocast has its LSTM run in that.

    Returns:
        Outputs (length, n_sequences, lstm.hidden_size), and the state after the last step.
    """
    if precision == "fp32" or sequences.device.type == "cpu":
        return lstm(sequences, state)
    if state is None:
        shape = (lstm.num_layers, sequences.shape[1], lstm.hidden_size)
        zeros = torch.zeros(shape, dtype=torch.float32, device=sequences.device)
        state = (zeros, zeros)
    with torch.autocast(sequences.device.type, enabled=False):
        weights = _in_one_block(lstm)
        before = (state[0].bfloat16(), state[1].bfloat16())
        how = (lstm.bias, lstm.num_layers, lstm.dropout, lstm.training, lstm.bidirectional, lstm.batch_first)
        output, hidden, cell = torch.lstm(sequences.bfloat16(), before, weights, *how)
    return output, (hidden.to(state[0].dtype), cell.to(state[1].dtype))


def _in_one_block(lstm: nn.LSTM) -> list[Tensor]:
    """Return an LSTM's weights in bfloat16, as views of one block in cuDNN's order: matrices, then biases.

    cuDNN would otherwise copy them into such a block in each call, and torch would say so.
    """
    weights = [weight for weight in lstm._flat_weights if weight is not None]
    order = sorted(range(len(weights)), key=lambda place: weights[place].dim() == 1)
    block = torch.cat([weights[place].flatten() for place in order]).bfloat16()
    parts = block.split([weights[place].numel() for place in order])
    views = dict(zip(order, parts, strict=True))
    return [views[place].view(weight.shape) for place, weight in enumerate(weights)]


def usable_precision(policy: RecurrentActorCriticPolicy, asked: Precision) -> Precision:
    """Return the requested precision; if this machine does not support it, print a line and return `fp32`."""
    why_not = why_no_bf16(policy) if asked == "bf16" else None
    if why_not is None:
        return asked
    print(f"bf16 is unavailable ({why_not}): the networks run in fp32", file=sys.stderr, flush=True)
    return "fp32"


def why_no_bf16(policy: RecurrentActorCriticPolicy) -> str | None:
    """Return in a few words why a policy cannot run in bfloat16 on its device; None if it can.

    Both LSTMs are run as in a rollout and in an update, without and with gradients.
    """
    device = policy.device
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "this GPU has no bfloat16"
    lstms = [lstm for lstm in (policy.lstm_actor, policy.lstm_critic) if lstm is not None]
    try:
        for lstm in lstms:
            _try(lstm, device)
    except RuntimeError as error:
        return f"this machine has no bfloat16 LSTM: {str(error).strip().partition('. ')[0]}"
    return None


def _try(lstm: nn.LSTM, device: torch.device) -> None:
    """Run an LSTM in bfloat16.

    Raises:
        RuntimeError: the device does not support it.
    """

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(*shape, dtype=torch.float32, device=device)

    state = zeros(lstm.num_layers, _TRIED_SEQUENCES, lstm.hidden_size)
    sequence = zeros(_TRIED_STEPS, _TRIED_SEQUENCES, lstm.input_size)
    with autocast(device, "bf16"):
        with torch.no_grad():
            run_lstm(lstm, sequence, (state, state), "bf16")
        with torch.enable_grad():
            output, _ = run_lstm(lstm, sequence, (state, state), "bf16")
            # Compute gradients of the weights without changing their `grad`.
            torch.autograd.grad(output.float().sum(), list(lstm.parameters()))
