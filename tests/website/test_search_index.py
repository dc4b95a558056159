import json
from pathlib import Path

from website.search_index import main


def entry(location: str, text: str) -> dict[str, str]:
    return {"location": location, "title": location.rpartition(".")[2], "text": text}


def test_modules_are_found_by_name_and_first_paragraph_and_pages_by_every_word(tmp_path: Path) -> None:
    told = "<pre><code>Gait(cfg: GaitConfig)\n</code></pre> <p>The <code>clock</code>.</p> <p>And more.</p>"
    written = [
        entry("rewards/#the-gait-clock", "<p>One.</p> <p>Two.</p>"),
        entry("biped/mdp/gait/#biped.mdp.gait.Gait", told),
        entry("biped/mdp/gait/#biped.mdp.gait.Gait.phase", "<p>Where it is.</p>"),
        entry("biped_env/#biped_env.BipedEnv", told),
        entry("biped_env/#biped_env.BipedEnv.step", "<p>One step.</p>"),
    ]
    file = tmp_path / "search" / "search_index.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"config": {"lang": ["en"]}, "docs": written}))
    main(tmp_path)
    index = json.loads(file.read_text())
    assert index["config"] == {"lang": ["en"]}
    assert [(found["location"], found["text"]) for found in index["docs"]] == [
        ("rewards/#the-gait-clock", "<p>One.</p> <p>Two.</p>"),
        ("biped/mdp/gait/#biped.mdp.gait.Gait", "The clock."),
        ("biped_env/#biped_env.BipedEnv", "The clock."),
    ]
