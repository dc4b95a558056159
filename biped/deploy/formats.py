"""Writing and opening a policy as ONNX and as TorchScript."""

import contextlib
import importlib
import io
import json
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from biped.base.errors import MachineError
from biped.base.packages import how_to_install
from biped.deploy.contract_file import METADATA_KEY
from biped.deploy.network import PolicyStep
from biped.deploy.peers import plain_metadata

ONNX_FILE, TORCHSCRIPT_FILE, CONTRACT_FILE = "policy.onnx", "policy.pt", "contract.json"
"""The files of an export."""
OPSET = 18
"""Operator set of the ONNX file: the lowest that torch writes directly; ONNX Runtime reads it since 1.14. Converted to
17, its `Split` is no longer valid ONNX."""


def contract_text(contract: Mapping[str, Any]) -> str:
    """Return the contract as JSON, the same in each file."""
    return json.dumps(contract, indent=2) + "\n"


def write_onnx(network: PolicyStep, contract: Mapping[str, Any], path: Path) -> None:
    """Write the network as ONNX, with the contract's JSON and other projects' keys in its metadata.

    The contract says what the tensors are called, and whether any batch size is allowed.

    Raises:
        MachineError: a package is missing.
        OSError: the disk is full or not writable.
    """
    onnx = _imported("onnx")
    _imported("onnxscript")
    inputs, outputs = contract["policy"]["inputs"], contract["policy"]["outputs"]
    batch, axes = torch.export.Dim("batch"), [part["batch_axis"] for part in inputs]
    is_open = None not in axes
    with _quiet():
        program = torch.onnx.export(
            network,
            network.example(2 if is_open else 1),
            input_names=[part["name"] for part in inputs],
            output_names=[part["name"] for part in outputs][: network.num_outputs],
            dynamic_shapes=tuple({axis: batch} for axis in axes) if is_open else None,
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    graph = model.graph
    # The exporter stores at each node the source lines that it comes from, with paths of this machine.
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.helper.set_model_props(model, {METADATA_KEY: contract_text(contract), **plain_metadata(contract)})
    # The exporter sets a newer IR version only for these notes, which are removed above.
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def write_torchscript(network: PolicyStep, contract: Mapping[str, Any], path: Path) -> None:
    """Write the network as TorchScript for any batch size, with the contract's JSON as an extra file.

    Raises:
        OSError: the disk is full or not writable.
    """
    written, bare = io.BytesIO(), io.BytesIO()
    with _quiet(), torch.no_grad():
        traced: Any = torch.jit.trace(network, network.example(), check_trace=False)
        torch.jit.save(
            torch.jit.freeze(traced), written, _extra_files={CONTRACT_FILE: contract_text(contract).encode()}
        )
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(bare, "w", zipfile.ZIP_STORED) as target:
        for member in source.infolist():
            # The source lines of each operation, with paths of this machine; loading does not need them.
            if not member.filename.endswith(".debug_pkl"):
                target.writestr(zipfile.ZipInfo(member.filename), source.read(member))
    path.write_bytes(bare.getvalue())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporters' warnings about each other and about packages that are not used here."""
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
        raise MachineError(f"{name} cannot be imported ({error}): {how_to_install(name)}") from error


Numbers = NDArray[np.float32]
Memory = tuple[Numbers, Numbers]
"""Hidden and cell state, (layers, 1, lstm_hidden_size) each."""


class Stepped(NamedTuple):
    """The results of one step of an exported policy."""

    action: Numbers
    """Action, (1, num_joints)."""
    memory: Memory
    """Memory for the next step."""
    estimates: Numbers
    """Predictions of the estimator, (1, n_estimates), in physical units; (1, 0) if the file has none."""


Step = Callable[[Numbers, Memory], Stepped]
"""An exported policy: from an observation (1, width) and a memory to the results of one step."""


def open_onnx(path: Path) -> Step:
    """Return a function that runs an ONNX file in ONNX Runtime, on one CPU core.

    Raises:
        MachineError: ONNX Runtime cannot be imported.
    """
    try:
        runtime: Any = importlib.import_module("onnxruntime")
    except (ImportError, OSError) as error:
        raise MachineError(f"onnxruntime cannot be imported ({error}): {how_to_install('onnxruntime')}") from error
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only; it would warn about missing GPUs
    session = runtime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    names = [part.name for part in session.get_inputs()]

    def step(observation: Numbers, memory: Memory) -> Stepped:
        return _stepped(session.run(None, dict(zip(names, (observation, *memory), strict=True))))

    return step


def open_torchscript(path: Path) -> Step:
    """Return a function that runs a TorchScript file in torch."""
    module: Any = torch.jit.load(str(path), map_location="cpu")

    @torch.inference_mode()
    def step(observation: Numbers, memory: Memory) -> Stepped:
        return _stepped([part.numpy() for part in module(*map(torch.from_numpy, (observation, *memory)))])

    return step


def _stepped(outputs: Sequence[Numbers]) -> Stepped:
    action, hidden, cell, *estimates = outputs
    return Stepped(action, (hidden, cell), estimates[0] if estimates else np.empty((len(action), 0), np.float32))
