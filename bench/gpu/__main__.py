"""A queue of measurements for a GPU that is lent for minutes: python -m bench.gpu --minutes 9 --out DIR

Runs the next items of a fixed list, the most valuable first, and stops in time. It skips items that have a line in
bench/results/gpu/*.jsonl or in DIR. Each item that finishes is one line of a new file in DIR, at once; DIR/items.log
has all that the items print. Copy the file to bench/results/gpu/, then run `python -m bench --page` and
`python -m bench.learns --render`.

On a machine without network, the first lines name the wheels and files to bring. --rehearse runs all items on the CPU
at toy size.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.gpu.needs import SET, download, lacking


def main(arguments: Sequence[str] | None = None) -> None:
    began = time.monotonic()
    flags = _flags(arguments)
    if short := lacking():
        print("; ".join(f"{name}: {here}" for name, here in short.items()), f"to bring it: {download(short)}", sep="\n")
        if "missing" in short.values():
            sys.exit(2)
    from bench.gpu import run  # which needs these packages

    if flags.bring is not None:
        print(run.bring(flags.bring))
    elif flags.rehearse:
        run.rehearse(flags.out)
    else:
        run.run(flags.out, began + 60 * flags.minutes, flags.data, flags.commit)


def _flags(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0, help="minutes after which all has ended, 9 by default")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder for the lines")
    parser.add_argument("--data", help=f"Fashion-MNIST: the file {SET} that --bring writes, or a folder of IDX files")
    parser.add_argument("--commit", help="the commit that is measured, if git does not know it")
    parser.add_argument("--rehearse", action="store_true", help="run all items on the CPU at toy size")
    parser.add_argument(
        "--bring", type=Path, metavar="DIR", help=f"only write DIR/{SET}, for a machine without network"
    )
    flags = parser.parse_args(arguments)
    if flags.out is None and not (flags.rehearse or flags.bring):
        parser.error("name the folder for the lines: --out DIR")
    return flags


if __name__ == "__main__":
    main()
