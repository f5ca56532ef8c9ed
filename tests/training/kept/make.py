"""Keeps a tiny run of a release for the tests of all later ones: python tests/training/kept/make.py

It was stopped after six of its ten steps; beside its checkpoint lie the encoder that it ended with when it went on, and
what that encoder says of four images.
"""

import json
import os
import shutil
import signal
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

import sanslabel
from sanslabel import checkpoint, methods
from sanslabel.sources import open_source
from sanslabel.training import session
from sanslabel.training.signals import Stopped

OPTIONS = dict(
    data="digits", encoder={"name": "mlp", "hidden": 16}, epochs=2, batch=256, precision="float32", device="cpu"
)


def main() -> None:
    torch.set_num_threads(1)
    kept = Path(__file__).parent / sanslabel.__version__
    optimize = session.optimize

    def stopped(*args):
        for record in optimize(*args):
            if record.clock.step == 5:
                os.kill(os.getpid(), signal.SIGTERM)
            yield record

    moco = methods.method_class("moco")
    small = replace(moco.under(moco.small), hidden=32, width=8, queue=256)
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        session.optimize = stopped
        try:
            sanslabel.train(method=small, out=run, **OPTIONS)
        except Stopped:
            shutil.copytree(run, kept, ignore=shutil.ignore_patterns(".lock", "metrics.jsonl"))
        session.optimize = optimize
        sanslabel.resume(run)
        for name in ("encoder.safetensors", "config.json"):
            shutil.copy(run / name, kept)
        with torch.no_grad():
            outputs = sanslabel.load_encoder(run)(open_source("digits").load([0, 1, 2, 3]).images / 255)
    checkpoint.write_json(kept / "outputs.json", {"first_four_digits": outputs.tolist()})
    print(json.dumps({str(f.relative_to(kept)): f.stat().st_size for f in sorted(kept.rglob("*")) if f.is_file()}))


if __name__ == "__main__":
    main()
