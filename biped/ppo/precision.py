"""In which precision the networks run, and whether this machine can: found by trying, as no list of machines is whole.

On a CPU the bfloat16 LSTM is oneDNN's, which has none for some instruction sets (AVX2 without AVX-512 is one). A GPU
before Ampere computes in bfloat16 only by emulation, which is slower than single precision.
"""

import sys
from typing import Literal

import torch
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from torch import Tensor, nn

Precision = Literal["fp32", "bf16"]
"""Of the networks up to their heads; heads, probabilities and losses are always fp32."""

_TRIED_STEPS, _TRIED_SEQUENCES = 2, 2


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context in which networks run in a precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def usable_precision(policy: RecurrentActorCriticPolicy, asked: Precision) -> Precision:
    """Return the precision that was asked for or, where this machine cannot, say so in a line and return `fp32`."""
    why_not = why_no_bf16(policy) if asked == "bf16" else None
    if why_not is None:
        return asked
    print(f"bf16 cannot be had ({why_not}): the networks run in fp32", file=sys.stderr, flush=True)
    return "fp32"


def why_no_bf16(policy: RecurrentActorCriticPolicy) -> str | None:
    """Return why a policy cannot run in bfloat16 where it is, in a few words; None if it can.

    Both LSTMs are tried as a rollout and an update run them, without and with gradients.
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
        RuntimeError: it cannot.
    """

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(*shape, dtype=torch.float32, device=device)

    state = zeros(lstm.num_layers, _TRIED_SEQUENCES, lstm.hidden_size)
    sequence = zeros(_TRIED_STEPS, _TRIED_SEQUENCES, lstm.input_size)
    with autocast(device, "bf16"):
        with torch.no_grad():
            lstm(sequence, (state, state))
        with torch.enable_grad():
            output, _ = lstm(sequence, (state, state))
            # Gradients for the weights, without touching those that they have.
            torch.autograd.grad(output.float().sum(), list(lstm.parameters()))
