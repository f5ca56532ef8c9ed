"""Every method but LeJEPA trains beside its authors' step, and docs/fidelity.md has a row for it."""

from pathlib import Path

from sanslabel import methods

HERE = Path(__file__).parent
TABLE = HERE.parents[1] / "docs" / "fidelity.md"


def test_no_method_is_left_out():
    compared = {name for name in methods.names() if name != "lejepa"}
    assert compared <= {file.stem.removeprefix("test_") for file in HERE.glob("test_*.py")}
    rows = {line.split("|")[1].strip() for line in TABLE.read_text().splitlines() if line.startswith("| ")}
    assert rows - {"method"} == {methods.method_class(name).__name__ for name in compared}
