"""A trained policy as files that need nothing of this project: ONNX, TorchScript and the contract.

Nothing is left in the output folder unless both formats do what PyTorch does (`biped.parity`).
"""

import contextlib
import copy
import importlib
import io
import json
import logging
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from torch import Tensor, nn

from biped.contract import INPUTS, LARGEST_SUM, METADATA_KEY, OUTPUTS
from biped.errors import MachineError, UsageError, disk_error
from biped.parity import Difference, Episodes, as_table, compare, open_onnx, open_torchscript, require_parity

ONNX_FILE, TORCHSCRIPT_FILE, CONTRACT_FILE = "policy.onnx", "policy.pt", "contract.json"
"""What an export leaves."""
OPSET = 18
"""Of the ONNX file: the lowest that torch writes by itself, and ONNX Runtime reads since 1.14. Converted to 17, its
`Split` is no longer valid ONNX."""


class PolicyStep(nn.Module):
    """One step of the deterministic policy, with its memory outside: the actor alone, with weights of its own.

    The LSTM is written out in elementary operations: on a CPU, single steps of `torch.lstm` take ten times as long
    (benchmarks/README.md).
    """

    def __init__(self, policy: RecurrentActorCriticPolicy, action_clip: float) -> None:
        """Copy what acts.

        Args:
            policy: of one linear head on one actor's LSTM.
            action_clip: actions are clipped to ± this.
        """
        super().__init__()
        parts = (policy.pi_features_extractor, policy.lstm_actor, policy.mlp_extractor.policy_net, policy.action_net)
        self.extractor, self.lstm, self.tail, self.head = copy.deepcopy(parts)
        self._action_clip = action_clip
        self.to("cpu", torch.float32).eval().requires_grad_(False)

    def forward(self, obs: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Act once.

        Args:
            obs: (batch, width).
            h: hidden state, (layers, batch, lstm_hidden_size); zeros at an episode's start.
            c: cell state, as `h`.

        Returns:
            The clipped action (batch, num_joints), and the states to give to the next step: finite, whatever came in.
            Where a number of `obs` is not, the states are those that came in, and so the action is the one that they
            gave in the step before. States that are not finite count as zeros.
        """
        is_sound = _is_finite(obs, (1,))
        is_whole = _is_finite(torch.cat((h, c)), (0, 2))
        h, c = torch.where(is_whole, h, 0.0), torch.where(is_whole, c, 0.0)
        output, hidden, cell = self.extractor(obs), [], []
        for layer, (w_input, w_hidden, b_input, b_hidden) in enumerate(self.lstm.all_weights):
            gates = nn.functional.linear(output, w_input, b_input) + nn.functional.linear(h[layer], w_hidden, b_hidden)
            enter, keep, candidate, leave = gates.chunk(4, dim=1)
            memory = keep.sigmoid() * c[layer] + enter.sigmoid() * candidate.tanh()
            output = torch.where(is_sound, leave.sigmoid() * memory.tanh(), h[layer])
            hidden.append(output)
            cell.append(torch.where(is_sound, memory, c[layer]))
        action = self.head(self.tail(output)).clamp(-self._action_clip, self._action_clip)
        return action, torch.stack(hidden), torch.stack(cell)

    def example(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return inputs for exporters to follow: a batch of two, since one is not seen as any number."""
        width = next(self.extractor.parameters()).shape[1]
        state = torch.zeros(self.lstm.num_layers, 2, self.lstm.hidden_size, dtype=torch.float32)
        return torch.zeros(2, width, dtype=torch.float32), state, state.clone()


def _is_finite(numbers: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Say for each robot whether its numbers are finite, and small enough for every sum of them to be, (batch, 1)."""
    # Sums and comparisons treat what is not a number alike in every runtime; maxima do not.
    return (numbers.abs().sum(dims) <= LARGEST_SUM).unsqueeze(1)


def export_policy(
    network: PolicyStep,
    contract: Mapping[str, Any],
    episodes: Episodes,
    out: Path,
    say: Callable[[str], None] = print,
) -> tuple[Difference, ...]:
    """Write both formats and the contract, if they do what PyTorch did.

    Args:
        network: what is exported.
        contract: goes into each file.
        episodes: what PyTorch saw and did.
        out: the folder; made if its parent is there. Files of an earlier export are replaced, all or none.
        say: takes the parity table.

    Returns:
        The lines of the table.

    Raises:
        UsageError: `out` cannot be a folder.
        MachineError: the disk is full, a package is missing, or a format is not what PyTorch is.
    """
    text = json.dumps(contract, indent=2) + "\n"
    with _all_or_nothing(out) as folder:
        write_onnx(network, text, folder / ONNX_FILE)
        write_torchscript(network, text, folder / TORCHSCRIPT_FILE)
        (folder / CONTRACT_FILE).write_text(text, encoding="utf-8")
        lines = (
            compare("ONNX", episodes, open_onnx(folder / ONNX_FILE)),
            compare("TorchScript", episodes, open_torchscript(folder / TORCHSCRIPT_FILE)),
        )
        say(as_table((episodes.reference, *lines)))
        require_parity(lines)
    return lines


def check_out(out: Path) -> None:
    """Check that files could go into a folder, before anything is computed.

    Raises:
        UsageError: it is a file, or there is no folder to make it in.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out: {out} is a file: name a folder")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"--out: there is no folder {out.parent}")


def write_onnx(network: PolicyStep, contract: str, path: Path) -> None:
    """Write the network as ONNX, with the contract's JSON in its metadata and any batch size.

    Raises:
        MachineError: a package is missing.
        OSError: the disk is full or not writable.
    """
    onnx = _imported("onnx")
    _imported("onnxscript")
    batch = torch.export.Dim("batch")
    shapes = dict(zip(INPUTS, ({0: batch}, {1: batch}, {1: batch}), strict=True))
    with _quiet():
        program = torch.onnx.export(
            network,
            network.example(),
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_shapes=shapes,
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    graph = model.graph
    # The exporter notes at each node which lines it comes from: paths of this machine.
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.helper.set_model_props(model, {METADATA_KEY: contract})
    # The exporter stamps a newer one, of which nothing is left: its only addition was the notes above.
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def write_torchscript(network: PolicyStep, contract: str, path: Path) -> None:
    """Write the network as TorchScript, with the contract's JSON as an extra file and any batch size.

    Raises:
        OSError: the disk is full or not writable.
    """
    written, bare = io.BytesIO(), io.BytesIO()
    with _quiet(), torch.no_grad():
        traced: Any = torch.jit.trace(network, network.example(), check_trace=False)
        torch.jit.save(torch.jit.freeze(traced), written, _extra_files={CONTRACT_FILE: contract.encode()})
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(bare, "w", zipfile.ZIP_STORED) as target:
        for member in source.infolist():
            # Which lines each operation comes from: paths of this machine, and nothing that loading needs.
            if not member.filename.endswith(".debug_pkl"):
                target.writestr(zipfile.ZipInfo(member.filename), source.read(member))
    path.write_bytes(bare.getvalue())


@contextlib.contextmanager
def _all_or_nothing(out: Path) -> Iterator[Path]:
    """Yield a folder whose files are moved into `out` at the end, unless anything goes wrong."""
    check_out(out)
    try:
        is_new = not out.exists()
        out.mkdir(exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".export-", dir=out))
        try:
            yield folder
            for file in sorted(folder.iterdir()):
                file.replace(out / file.name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if is_new and not any(out.iterdir()):
                out.rmdir()
    except OSError as error:
        raise disk_error(out, error, "--out") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep to themselves what exporters say about packages that we do not use, and about each other."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise MachineError(f"{name} cannot be imported ({error}): run ./install_genesis.sh") from error
