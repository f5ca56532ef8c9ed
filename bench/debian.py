"""Data that come inside Debian's packages, fetched by name and version into a cache folder."""

from __future__ import annotations

import hashlib
import subprocess
import warnings
from pathlib import Path
from shutil import which
from typing import NamedTuple


class Package(NamedTuple):
    """A package whose files are data."""

    name: str
    version: str
    sha256: str


def unpacked(package: Package, cache: Path) -> Path:
    """Returns the folder with the files of a package, which is fetched and unpacked once.

    Warns if the package has changed. Exits with a sentence where it cannot be had.
    """
    folder = cache / f"{package.name}-{package.version.replace(':', '-')}"
    if (folder / "usr").is_dir():
        return folder
    if which("apt-get") is None or which("dpkg-deb") is None:
        raise SystemExit(f"{package.name} {package.version}: skipped, since this system has no apt-get and dpkg-deb.")
    folder.mkdir(parents=True, exist_ok=True)
    for wanted in (f"{package.name}={package.version}", package.name):  # Debian's versions move
        command = ["apt-get", "download", wanted]
        if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0:
            break
    archives = sorted(folder.glob("*.deb"))
    if not archives:
        raise SystemExit(f"{package.name} {package.version}: skipped, since apt-get cannot download it here.")
    digest = hashlib.sha256(archives[0].read_bytes()).hexdigest()
    if digest != package.sha256:
        warnings.warn(
            f"{archives[0].name} has the SHA-256 {digest}, and {package.sha256} was used before", stacklevel=2
        )
    subprocess.run(["dpkg-deb", "-x", archives[0].name, "."], cwd=folder, check=True)
    return folder
