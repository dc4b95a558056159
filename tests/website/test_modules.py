import biped_config
import biped_env
from tests.conftest import ROOT
from website.modules import FACES, pages

PAGES = pages(ROOT)


def test_every_module_has_a_page_and_a_row_in_its_rooms() -> None:
    for path in (ROOT / "biped").glob("*/*.py"):
        room, name = path.parent.name, path.stem
        if name == "__init__":
            assert f"](biped/{room}/index.md)" in PAGES["python.md"]
        else:
            assert f"::: biped.{room}.{name}\n" in PAGES[f"biped/{room}/{name}.md"]
            assert f"| [`{name}`]({name}.md) | " in PAGES[f"biped/{room}/index.md"]


def test_rows_say_what_a_module_is() -> None:
    assert "| [`gait`](gait.md) |  |" not in PAGES["biped/mdp/index.md"]
    rows = [row for page in PAGES.values() for row in page.splitlines() if row.startswith("| [`") and "::" not in row]
    assert [row for row in rows if row.endswith("|  |")] == []


def test_faces_have_all_that_they_export() -> None:
    assert [name for name in biped_env.__all__ if name not in PAGES["biped_env.md"]] == []
    page = PAGES["biped_config.md"]
    assert "| [`GaitConfig`](biped/config/task.md#biped.config.task.GaitConfig) |" in page
    assert [name for name in biped_config.__all__ if name not in page] == []
    assert all(f"]({name}.md)" in PAGES["python.md"] for name in FACES)
