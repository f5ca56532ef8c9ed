"""The suite: python -m bench [PART …] [--device cuda]

Runs the parts one after the other, keeps their figures in bench/results/DEVICE.json, and renders docs/performance.md of
all devices' files. It installs nothing; a peer that is missing is left out. Run it with nothing else running.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from pathlib import Path
from typing import Any

import torch

from bench.machine import facts, slug
from bench.peers import INSTALL, NAMES, versions

PARTS = ("views", "step", "share", "loader", "memory", "evaluation", "time_to_accuracy", "growth", "start")
RESULTS, PAGE = Path(__file__).parent / "results" / "devices", Path("docs") / "performance.md"


def measured(part: str, device: torch.device) -> list[dict[str, Any]]:
    """The part's lines, shown as they come."""
    found = []
    for line in importlib.import_module(f"bench.{part}").lines(device):
        print(json.dumps(line), flush=True)
        found.append(line)
    return found


def page() -> str:
    """docs/performance.md, of all results that there are."""
    files = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    text = [INTRODUCTION]
    for file in files:
        known = ", ".join(f"{name} {version}" for name, version in file["versions"].items())
        text.append(f"# {file['device']}, {file['memory']}\n\nWith {known}.\n")
        text += [
            importlib.import_module(f"bench.{part}").section(file["parts"][part])
            for part in PARTS
            if part in file["parts"]
        ]
    if all(file["kind"] == "cpu" for file in files):
        text.append("# CUDA\n\nNo GPU was at hand: `python -m bench --device cuda` adds its figures here.\n")
    return "\n".join(text)


INTRODUCTION = """<!-- Made by `python -m bench`: edit bench/, not this page. -->
How fast the parts are, beside the peers, and what a run costs. What is compared ran by turns in one process, and
medians are shown; repeats on another day differ by a fifth, ratios by much less.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--page", action="store_true", help="render the page alone")
    flags = parser.parse_args()
    if unknown := set(flags.parts) - set(PARTS):
        parser.error(f"there is no part {unknown.pop()!r}; there are {', '.join(PARTS)}")
    if not flags.page:
        device = torch.device(flags.device)
        there = versions()
        print("Peers: " + (", ".join(f"{name} {version}" for name, version in there.items()) or "none"))
        if missing := [name for name in NAMES if name not in there]:
            print(f"Left out: {', '.join(missing)}; to compare with them: {INSTALL}")
        about = facts(device)
        path = RESULTS / f"{slug(about['device'])}.json"
        kept = json.loads(path.read_text())["parts"] if path.exists() else {}
        for part in flags.parts or PARTS:
            began = time.monotonic()
            print(f"\n{part}", flush=True)
            kept[part] = measured(part, device)
            print(f"{part}: {time.monotonic() - began:.0f} s", flush=True)
            RESULTS.mkdir(parents=True, exist_ok=True)
            path.write_text(
                json.dumps(
                    {"format": 1, "kind": "GPU" if device.type == "cuda" else "CPU", **about, "parts": kept}, indent=1
                )
                + "\n"
            )
    PAGE.write_text(page())
    print(PAGE)


if __name__ == "__main__":
    main()
