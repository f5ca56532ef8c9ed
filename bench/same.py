"""Tests whether two checkouts train to the same bits: python -m bench.same BEFORE AFTER [METHOD …]

Both checkouts train every method on the digits for one epoch (DeepCluster for two, since it only fills its memory in
the first), in float32, with seed 0, one thread and no worker processes. The table shows for each method how many
tensors of the exported encoders, and of the networks in the last checkpoint, are equal. Each checkout's code runs in
processes of its own. The exit code is 1 if a tensor of an encoder differs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors import safe_open

TRAIN = """
import sys
import sanslabel
options = {"precision": "float32", "seed": 0, "workers": 0, "device": "cpu"}
sanslabel.train("digits", method=sys.argv[1], epochs=int(sys.argv[2]), out=sys.argv[3], **options)
"""
"""what both checkouts run; it uses only what the public interface of both has"""
OTHER_DATA = {"avid", "cross_modal", "translation", "bitext", "masked_text"}
"""methods that need pictures with sound, or texts, which the digits are not"""
EPOCHS = {"deepcluster": 2}
"""epochs of methods that need more than one"""


def methods_of(checkout: Path) -> list[str]:
    """Returns the names of a checkout's methods that train on pictures alone."""
    files = (checkout / "sanslabel" / "methods").glob("*.py")
    return sorted(file.stem for file in files if file.stem not in {"__init__", "method", *OTHER_DATA})


def trained(checkout: Path, method: str, run: Path) -> None:
    """Trains the method with the code of a checkout. CalledProcessError where it fails."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRAIN, method, str(EPOCHS.get(method, 1)), str(run)],
        env=os.environ | threads | {"PYTHONPATH": str(checkout)},
        cwd=checkout,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )


def tensors(file: Path) -> Iterator[tuple[str, str]]:
    """Yields the name and a hash of dtype, shape and bits of each tensor in a safetensors file."""
    with safe_open(file, framework="np") as content:
        for name in content.keys():  # noqa: SIM118
            value = content.get_tensor(name)
            yield name, sha256(f"{value.dtype}{value.shape}".encode() + value.tobytes()).hexdigest()


def exported(run: Path) -> dict[str, str]:
    """Returns the hash of each tensor of each exported encoder, by file and name."""
    return {
        f"{file.name}:{name}": bits for file in sorted(run.glob("encoder*.safetensors")) for name, bits in tensors(file)
    }


def remembered(run: Path) -> Counter[str]:
    """Returns the hashes of the tensors in the last checkpoint's networks, whatever they are called."""
    last = max((run / "checkpoints").glob("step-*"))
    return Counter(bits for _, bits in tensors(last / "networks.safetensors"))


def compared(before: Path, after: Path, method: str) -> tuple[str, bool]:
    """Returns a row of the table, and whether all tensors of the encoders are equal."""
    with TemporaryDirectory() as folder:
        runs = [Path(folder) / "before", Path(folder) / "after"]
        try:
            for checkout, run in zip((before, after), runs, strict=True):
                trained(checkout, method, run)
        except subprocess.CalledProcessError as error:
            return f"| {method} | failed in {error.cmd[-1].rpartition('/')[2]} | |", False
        a, b = (exported(run) for run in runs)
        c, d = (remembered(run) for run in runs)
    same = sum(a[name] == b.get(name) for name in a)
    row = f"| {method} | {same} of {len(a)} | {(c & d).total()} of {c.total()} |"
    return row, a == b


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("methods", nargs="*")
    parser.add_argument("--jobs", type=int, default=2, help="methods at a time")
    flags = parser.parse_args()
    before, after = flags.before.resolve(), flags.after.resolve()
    chosen = flags.methods or methods_of(before)
    print("| method | equal tensors of the encoders | equal tensors of the networks |\n|---|---|---|", flush=True)
    equal = []
    with ThreadPoolExecutor(flags.jobs) as pool:
        for row, same in pool.map(lambda method: compared(before, after, method), chosen):
            print(row, flush=True)
            equal.append(same)
    print(f"\n{sum(equal)} of {len(equal)} methods have equal encoders.")
    sys.exit(not all(equal))


if __name__ == "__main__":
    main()
