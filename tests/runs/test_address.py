"""Addresses of shared policies: what is one, what is none, and what they are called on the disk."""

import pytest

from biped.base.errors import UsageError
from biped.runs.address import Address


@pytest.mark.parametrize(
    ("text", "path", "revision"),
    [
        ("hf://me/walk", "me/walk", None),
        ("hf://me/walk@v1.0", "me/walk", "v1.0"),
        ("hf://me/walk@refs/pr/3", "me/walk", "refs/pr/3"),
        ("hf://my-lab/walk_2.5", "my-lab/walk_2.5", None),
        ("wandb://lab/gaits/walk", "lab/gaits/walk", None),
        ("wandb://lab/gaits/walk:best", "lab/gaits/walk", "best"),
    ],
)
def test_an_address_is_read_and_said_as_it_was_typed(text: str, path: str, revision: str | None) -> None:
    address = Address.parse(text)
    assert (address.path, address.revision) == (path, revision)
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "hf://",
        "hf://walk",
        "hf://me/walk/model.zip",
        "hf://../walk",
        "hf://me/..",
        "hf://me/.walk",
        "hf://me/walk@../../main",
        "hf://me/wa\nlk",
        "hf://me/walk@",
        "wandb://lab/walk",
        "wandb://lab/gaits/../walk",
        "wandb://lab/gaits/walk:..",
        "https://huggingface.co/me/walk",
        "ftp://me/walk",
    ],
)
def test_what_is_no_address_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        Address.parse(text)
    assert "hf://USER/REPO" in str(refused.value) or "wandb://ENTITY" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_only_commits_and_numbered_versions_never_mean_another_one() -> None:
    commit = "a" * 40
    assert Address.parse(f"hf://me/walk@{commit}").fixed_version == commit
    assert Address.parse("wandb://lab/gaits/walk:v12").fixed_version == "v12"
    for text in ("hf://me/walk", "hf://me/walk@main", "hf://me/walk@v1", "wandb://lab/gaits/walk:latest"):
        assert Address.parse(text).fixed_version is None, text


def test_a_folder_has_the_name_of_its_version_and_no_slash() -> None:
    assert Address.parse("hf://me/walk@refs/pr/3").folder_name("b" * 40) == f"me--walk@{'b' * 12}"
    assert Address.parse("wandb://lab/gaits/walk").folder_name("v3") == "lab--gaits--walk@v3"
