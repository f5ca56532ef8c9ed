"""What a machine without network lacks, and how to bring it there. This file imports nothing but Python's own."""

from __future__ import annotations

import platform
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = {"pillow": "PIL", "lightning-utilities": "lightning_utilities"}
"""names of modules that differ from those of their packages"""
SET = "fashion-mnist.npz"
"""the file of Fashion-MNIST that is brought"""


def lacking() -> dict[str, str]:
    """Returns the package's requirements that are missing or too old here, with what is here instead."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        requirements = tomllib.load(file)["project"]["dependencies"]
    short = {}
    for requirement in requirements:
        name, _, least = requirement.partition(">=")
        if not is_installed(name):
            short[name] = "missing"
        elif _numbers(installed := _version(name)) < _numbers(least):
            short[name] = f"{installed} where {least} is needed"
    return short


def is_installed(package: str) -> bool:
    """Returns whether a package can be found."""
    return find_spec(MODULES.get(package, package)) is not None


def download(packages: Iterable[str]) -> str:
    """Returns the command that downloads these packages' wheels for this Python, in the versions of constraints.txt."""
    fixed = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    wheels = [f"{name}=={fixed[name]}" if name in fixed else name for name in packages]
    return (
        f"python3 -m pip download --no-deps --only-binary=:all: --python-version {sys.version_info.major}."
        f"{sys.version_info.minor} --platform manylinux_2_28_{platform.machine()} --platform"
        f" manylinux2014_{platform.machine()} -d wheels {' '.join(wheels)}"
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "0"


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text.partition("+")[0])]
