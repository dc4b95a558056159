"""A real PostgreSQL server for a test, where one is installed."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.loopback import free_port

USER = "postgres"
"""Who runs it where the tests are root's: PostgreSQL refuses root."""


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs; None where there are none, or nobody who may run them."""
    named = [Path(found).resolve().parent for found in [shutil.which("pg_ctl")] if found]
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = [folder for folder in [*named, *installed] if (folder / "initdb").exists() and (folder / "pg_ctl").exists()]
    if not found or (os.geteuid() == 0 and USER not in {entry.pw_name for entry in pwd.getpwall()}):
        return None
    return found[0]


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """Start a server; yield the address of an empty database, and end it.

    Args:
        folder: that of PostgreSQL's programs.
    """
    own: dict[str, Any] = {"user": USER} if os.geteuid() == 0 else {}
    data, port = Path(tempfile.mkdtemp(prefix="postgres")), free_port()
    if own:
        shutil.chown(data, USER)

    def call(*words: str) -> None:
        # What is started here keeps its output open, so none is piped.
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([str(folder / words[0]), *words[1:]], check=True, cwd=data, **quiet, **own)

    try:
        call("initdb", "-D", str(data / "db"), "-U", "tester", "--auth=trust")
        listens = f"-p {port} -k {data} -c listen_addresses=127.0.0.1"
        call("pg_ctl", "-D", str(data / "db"), "-o", listens, "-w", "start")
        try:
            yield f"postgresql://tester:secret@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "-D", str(data / "db"), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(data)
