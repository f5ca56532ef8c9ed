"""The suite: python -m bench [NAME …] [--device cuda]

Runs the benches one after the other, each in a process of its own. It stores their figures in
bench/results/devices/DEVICE.json, line by line, and renders docs/performance.md from the files of all devices. It
installs nothing, and leaves out a library that is missing. A bench that fails is reported and skipped. Run it while
nothing else is running.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import torch

from bench.gpu.page import performance
from bench.gpu.queue import lines_in
from bench.machine import facts, occasion, slug
from bench.peers import INSTALL, NAMES, imported, versions

BENCHES = {
    "views": 3,
    "step": 20,
    "share": 25,
    "loader": 5,
    "memory": 12,
    "evaluation": 1,
    "time_to_accuracy": 75,
    "growth": 12,
    "start": 1,
}
"""minutes that each bench takes on two cores"""
RESULTS, PAGE = Path(__file__).parent / "results" / "devices", Path(__file__).parents[1] / "docs" / "performance.md"


def measure(name: str, device: torch.device, path: Path, about: Mapping[str, Any]) -> None:
    """Runs a bench and writes its lines into the file, where each replaces an earlier line of its case."""
    module = importlib.import_module(f"bench.{name}")
    measured = occasion()
    before = {line["case"]: line for line in _stored(path).get(name, [])}
    lines = {}
    for line in module.lines(device):
        print(json.dumps(line), flush=True)
        lines[line["case"]] = {"measured": measured, **line}
        _store(path, about, name, [*(before | lines).values()])
    if lines:
        _store(path, about, name, [*lines.values()])


def _stored(path: Path) -> dict[str, list[dict[str, Any]]]:
    return json.loads(path.read_text())["parts"] if path.exists() else {}


def _store(path: Path, about: Mapping[str, Any], name: str, lines: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".part")
    new.write_text(json.dumps({"format": 3, **about, "parts": _stored(path) | {name: lines}}, indent=1) + "\n")
    new.replace(path)


def draw(name: str, results: Path) -> None:
    """Draws the picture of a bench that has one."""
    module, lines = importlib.import_module(f"bench.{name}"), _stored(results).get(name)
    if lines and hasattr(module, "draw") and imported("matplotlib") is not None:
        module.draw(lines, _picture(name, results))


def _picture(name: str, results: Path) -> Path:
    return PAGE.with_name(f"{name}-{results.stem}.png")


def page() -> str:
    """Returns docs/performance.md, made from all stored results."""
    text, devices, queued = [INTRODUCTION], set(), lines_in(RESULTS.parent / "gpu")
    for path in sorted(RESULTS.glob("*.json")):
        file = json.loads(path.read_text())
        devices.add(file["kind"])
        text.append(f"# {file['device']}, {file['memory']}\n\n{_occasions(file['parts'])}\n")
        for name in (name for name in BENCHES if name in file["parts"]):
            module = importlib.import_module(f"bench.{name}")
            text.append(module.section(file["parts"][name]))
            if hasattr(module, "draw") and _picture(name, path).exists():
                text.append(f"![{module.PICTURE}]({_picture(name, path).name})\n")
    if "cuda" not in devices or queued:
        text.append(performance(queued))
    return "\n".join(text)


def _occasions(benches: Mapping[str, list[dict[str, Any]]]) -> str:
    """Returns the benches that were measured with which versions, on which day and at which commit.

    A bench that was interrupted may have two days.
    """
    days_by_versions: dict[str, dict[str, list[str]]] = {}
    for bench, line in ((name, line) for name in BENCHES for line in benches.get(name, [])):
        measured = line["measured"]
        versions = ", ".join(f"{package} {version}" for package, version in measured["versions"].items())
        day = f"{measured['on']} ({measured['commit']})"
        names = days_by_versions.setdefault(versions, {}).setdefault(day, [])
        if bench not in names:
            names.append(bench)
    return "\n\n".join(
        f"With {versions}. Measured: {'; '.join(f'{_listed(names)} on {when}' for when, names in days.items())}."
        for versions, days in days_by_versions.items()
    )


def _listed(benches: list[str]) -> str:
    return ", ".join(benches).replace("_", " ")


INTRODUCTION = """<!-- Made by `python -m bench`: edit bench/, not this page. -->
The speed of each part beside other libraries, and the cost of a run. Unless a section says otherwise, everything that
is compared ran by turns in one process, and medians are shown. Seconds differ by up to a fifth from one day to another.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    minutes = ", ".join(f"{name} ({about} min)" for name, about in BENCHES.items())
    parser.add_argument("benches", nargs="*", metavar="NAME", help=f"all by default, of {minutes} on two cores")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--page", action="store_true", help="only render the page and its pictures")
    flags = parser.parse_args()
    if unknown := set(flags.benches) - set(BENCHES):
        parser.error(f"there is no bench {unknown.pop()!r}; there are {', '.join(BENCHES)}")
    if flags.page:
        for name, path in product(BENCHES, RESULTS.glob("*.json")):
            draw(name, path)
        PAGE.write_text(page())
    elif len(flags.benches) == 1:
        run(flags.benches[0], torch.device(flags.device))
    elif failed := [name for name in flags.benches or BENCHES if not succeeds(name, flags.device)]:
        raise SystemExit(f"failed: {', '.join(failed)}")
    print(PAGE)


def run(name: str, device: torch.device) -> None:
    """Runs a bench, and updates the page even if it does not finish."""
    installed = versions()
    print("Peers: " + (", ".join(f"{name} {version}" for name, version in installed.items()) or "none"))
    if missing := [name for name in NAMES if name not in installed]:
        print(f"Left out: {', '.join(missing)}; to compare with them: {INSTALL}")
    about = facts(device)
    path, began = RESULTS / f"{slug(about['device'])}.json", time.monotonic()
    try:
        measure(name, device, path, about)
    finally:
        draw(name, path)
        PAGE.write_text(page())
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)


def succeeds(name: str, device: str) -> bool:
    """Runs a bench in a process of its own, and returns whether it succeeds.

    In a shared process it would be faster, since memory that another bench has freed is already mapped.
    """
    print(f"\n{name}", flush=True)
    return subprocess.run([sys.executable, "-m", "bench", name, "--device", device], check=False).returncode == 0


if __name__ == "__main__":
    main()
