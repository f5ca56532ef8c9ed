"""How soon a tar archive of a million members is opened: python -m bench.archives [MEMBERS]

The archive is written first, and takes 2 KB for each member. It is opened twice, the second time by its remembered
index. Time and memory are those of a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

BLOCK = 512
OPEN = """
import sys, time
from pathlib import Path
import sanslabel.sources.formats.tar as tar
held = lambda: int(next(s for s in open("/proc/self/status") if s.startswith("VmHWM")).split()[1]) * 1024
before, start = held(), time.perf_counter()
index = tar.index_of(Path(sys.argv[1]))
print(time.perf_counter() - start, held() - before, len(index.names))
"""


def header(name: str, size: int) -> bytes:
    """Returns the header of a file, as ustar has it."""
    fields = [name.encode().ljust(100, b"\0"), b"0000644\0", b"0000000\0" * 2, b"%011o\0" % size, b"0" * 11 + b"\0"]
    begin, end = b"".join(fields), b"0".ljust(101, b"\0") + b"ustar\x0000".ljust(255, b"\0")
    return begin + b"%06o\0 " % (sum(begin) + sum(end) + 8 * 32) + end


def written(path: Path, members: int) -> Path:
    """Writes an archive of so many members with names as WebDataset's, of 1,000 bytes each."""
    with path.open("wb", buffering=1 << 22) as file:
        for row in range(members):
            content = b"%06d" % row
            file.write(header(f"train/class_{row % 1000:04}/{row:09}.jpg", 1000) + content.ljust(2 * BLOCK, b"\0"))
        file.write(bytes(2 * BLOCK))
    return path


def lines(members: int) -> list[dict[str, Any]]:
    """Returns seconds and bytes of memory of the first opening and of the second."""
    results = []
    with TemporaryDirectory() as folder:
        archive = written(Path(folder) / "x.tar", members)
        os.utime(archive, ns=(10**18, 10**18))
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        for case in ("indexed", "remembered"):
            ended = subprocess.run(
                [sys.executable, "-c", OPEN, str(archive)], env=environment, capture_output=True, text=True, check=True
            )
            seconds, memory, count = ended.stdout.split()
            assert int(count) == members
            results.append({"case": case, "members": members, "seconds": float(seconds), "bytes": int(memory)})
    return results


if __name__ == "__main__":
    for line in lines(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000):
        print(json.dumps(line), flush=True)
