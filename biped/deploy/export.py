"""A trained policy as files that need nothing of this project: ONNX, TorchScript and the contract.

Files are written to the output folder only if both formats match PyTorch (`biped.deploy.parity`).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from biped.base.errors import UsageError, disk_error
from biped.base.files import whole_folder
from biped.deploy.formats import (
    CONTRACT_FILE,
    ONNX_FILE,
    TORCHSCRIPT_FILE,
    contract_text,
    open_onnx,
    open_torchscript,
    write_onnx,
    write_torchscript,
)
from biped.deploy.network import PolicyStep
from biped.deploy.parity import (
    Difference,
    Episodes,
    as_table,
    compare,
    require_parity,
)


def export_policy(
    network: PolicyStep,
    contract: Mapping[str, Any],
    episodes: Episodes,
    out: Path,
    say: Callable[[str], None] = print,
) -> tuple[Difference, ...]:
    """Write both formats and the contract, if the formats match PyTorch.

    Args:
        network: the policy to export.
        contract: the contract, stored in each file; it names the tensors of the ONNX file.
        episodes: PyTorch's observations and actions, as reference.
        out: the folder; made if its parent exists. Files of an earlier export are replaced, all or none.
        say: receives the parity table.

    Returns:
        The lines of the table.

    Raises:
        UsageError: `out` cannot be used as a folder.
        MachineError: the disk is full, a package is missing, or a format differs from PyTorch.
    """
    check_out(out)
    try:
        with whole_folder(out) as folder:
            write_onnx(network, contract, folder / ONNX_FILE)
            write_torchscript(network, contract, folder / TORCHSCRIPT_FILE)
            (folder / CONTRACT_FILE).write_text(contract_text(contract), encoding="utf-8")
            lines = (
                compare("ONNX", episodes, open_onnx(folder / ONNX_FILE)),
                compare("TorchScript", episodes, open_torchscript(folder / TORCHSCRIPT_FILE)),
            )
            say(as_table((episodes.reference, *lines)))
            require_parity(lines)
    except OSError as error:
        raise disk_error(out, error, "--out") from error
    return lines


def check_out(out: Path) -> None:
    """Check that files can be written into a folder, before anything is computed.

    Raises:
        UsageError: it is a file, or its parent folder does not exist.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out: {out} is a file: name a folder")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"--out: there is no folder {out.parent}")
