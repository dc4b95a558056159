"""Addresses of shared policies: hf://USER/REPO[@REVISION] and wandb://ENTITY/PROJECT/ARTIFACT[:VERSION].

Standard library only, because a robot's computer reads addresses too.
"""

import re
from dataclasses import dataclass
from typing import Literal

from biped.base.errors import UsageError

Service = Literal["hf", "wandb"]
"""Hugging Face, or Weights & Biases."""
FORMS: dict[Service, str] = {
    "hf": "hf://USER/REPO, or hf://USER/REPO@REVISION",
    "wandb": "wandb://ENTITY/PROJECT/ARTIFACT, or wandb://ENTITY/PROJECT/ARTIFACT:VERSION",
}
"""What an address looks like."""
NEWEST: dict[Service, str] = {"hf": "main", "wandb": "latest"}
"""The revision of an address without one."""

_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,126}[A-Za-z0-9_])?"
_PATTERNS = {
    "hf": re.compile(rf"({_PART}/{_PART})(?:@({_PART}(?:/{_PART})*))?"),
    "wandb": re.compile(rf"({_PART}/{_PART}/{_PART})(?::({_PART}))?"),
}
"""Parts have no slash and no dot at their ends, so that none is a folder above."""
_FIXED = {"hf": re.compile(r"[0-9a-f]{40}"), "wandb": re.compile(r"v\d+")}
_SHORT = 12


@dataclass(frozen=True)
class Address:
    """The place of a shared policy."""

    service: Service
    """Where it is."""
    path: str
    """USER/REPO, or ENTITY/PROJECT/ARTIFACT."""
    revision: str | None = None
    """A branch, tag or commit, or a version or alias; None: the newest."""

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read an address.

        Raises:
            UsageError: it is not one.
        """
        service, _, rest = text.partition("://")
        if service not in FORMS:
            raise UsageError(f"{text!r} is neither of {FORMS['hf']} nor of {FORMS['wandb']}")
        found = _PATTERNS[service].fullmatch(rest)
        if found is None or ".." in rest:
            raise UsageError(f"{text!r} is not of the form {FORMS[service]}")
        return cls(service, found[1], found[2])

    def __str__(self) -> str:
        mark = "@" if self.service == "hf" else ":"
        return f"{self.service}://{self.path}" + (f"{mark}{self.revision}" if self.revision else "")

    @property
    def fixed_version(self) -> str | None:
        """The version, if it can never mean another one: a commit, or a numbered version; else None."""
        return self.revision if self.revision and _FIXED[self.service].fullmatch(self.revision) else None

    def folder_name(self, version: str) -> str:
        """Return the name of a folder for one version of the policy; a commit is shortened."""
        version = version[:_SHORT] if self.service == "hf" else version
        return f"{self.path.replace('/', '--')}@{version.replace('/', '--')}"
