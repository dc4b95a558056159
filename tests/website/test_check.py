from pathlib import Path

import pytest

from website.check import main, problems

FINE = '<html><body><h1 id="top">Fine</h1><a href="b/#there">b</a> <a href="https://x.org">out</a></body></html>'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "b").mkdir()
    (tmp_path / "index.html").write_text(FINE)
    (tmp_path / "b" / "index.html").write_text(
        '<p id="there"><a href="../index.html#top">a</a><a href="#there">b</a></p>'
    )
    return tmp_path


def test_a_site_whose_links_hold_is_fine(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(site) == 0
    assert capsys.readouterr().out.startswith("2 pages, the heaviest index.html")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="c/">c</a>', "index.html: c/ leads nowhere"),
        ('<a href="../elsewhere.html">c</a>', "index.html: ../elsewhere.html leads nowhere"),
        ('<a href="b/#here">b</a>', "index.html: b/#here has no such anchor"),
        ('<a href="#here">b</a>', "index.html: #here has no such anchor"),
        ('<img src="none.png" alt="none">', "index.html: none.png leads nowhere"),
        ('<link rel="stylesheet" href="none.css">', "index.html: none.css leads nowhere"),
        ('<img src="b/p.png">', "index.html: the picture b/p.png has no words"),
    ],
)
def test_what_is_wrong_is_one_line_each(site: Path, body: str, problem: str) -> None:
    (site / "b" / "p.png").write_bytes(b"png")
    (site / "index.html").write_text(f'<p id="top">{body}</p>')
    assert list(problems(site)) == [problem]
    assert main(site) == 1


def test_a_page_weighs_what_it_loads_each_file_once(site: Path) -> None:
    (site / "p.png").write_bytes(bytes(600))
    text = '<img src="../p.png" alt="p"><img src="../p.png" alt="again"><a href="../p.png">p</a>'
    (site / "b" / "index.html").write_text(f'<p id="there">{text}</p>')
    assert list(problems(site, heaviest_bytes=900)) == []
    assert list(problems(site, heaviest_bytes=700)) == ["b/index.html: weighs 0.00 MB with what it loads, of 0.00 MB"]


def test_a_folder_without_pages_is_no_site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path) == 1
    assert "there is no page" in capsys.readouterr().out
