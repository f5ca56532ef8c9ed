"""What the README says is true."""

import re
from pathlib import Path

import sanslabel

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_what_it_links_to_exists():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_its_method_in_one_file_trains(tmp_path, monkeypatch):
    (block,) = re.findall(r"```python\n(from dataclasses import dataclass.*?)```", README, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    made, call = block.split("sanslabel.train(")
    assert call.strip() == '"fashion", method=Mine())'
    names: dict = {"__name__": "__main__"}
    exec(made, names)
    run = sanslabel.train("digits", method=names["Mine"](), epochs=1)
    assert run.path.is_relative_to("runs")
    assert run.plan.hyperparameters["temperature"] == 0.2


def test_ci_finds_its_command():
    assert '    pip install -c constraints.txt -e ".[test]" && pytest\n' in README
    assert "    pip install -c constraints.txt . && sanslabel train\n" in README


def test_nothing_is_left_open():
    for file in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        assert "@@" not in file.read_text()
