"""The file of an evaluation, read back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sanslabel import checkpoint
from sanslabel.errors import bad_input_as
from sanslabel.scores import Score
from sanslabel.serialization import from_plain


def results(path: Path) -> dict[str, Any]:
    """What RUN/evaluation/DATA.json says of its images and encoder, and its `scores`. BadInput for anything else."""
    content = checkpoint.read_json(path)
    with bad_input_as(path, "remove it, and measure again"):
        texts = [content["data"], content["fingerprints"]["test"], content["encoder"]["network"]]
        texts += [score["settings"].get("data", "") for score in content["scores"]]
        from_plain(list[str], texts)
        for score in content["scores"]:
            from_plain(Score, _whole(score))
    return content


def _whole(score: Mapping[str, Any]) -> dict[str, Any]:
    """With what files of earlier versions have not, and with a number where JSON has none."""
    value = 0.0 if score["value"] is None else score["value"]
    return {"metric": "accuracy", "stage": None, **score, "kind": "Score", "value": value}
