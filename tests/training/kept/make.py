"""Keeps a tiny run of each of five methods for the tests of all later commits: python tests/training/kept/make.py NAME

NAME is the folder beside this file that they go to, a release or a commit. Each run was stopped after six of its ten
steps. Beside its checkpoint lie what it ended with when it went on: its figures, its encoders, their scores, and the
outputs of the first encoder for four images.
"""

import json
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

import sanslabel
from sanslabel import checkpoint, methods
from sanslabel.encoders import vit
from sanslabel.evaluation.protocols.knn import KNN
from sanslabel.evaluation.protocols.linear import Linear
from sanslabel.sources import open_source
from sanslabel.training import session
from sanslabel.training.signals import Stopped

MLP = {"name": "mlp", "hidden": 16}
RUNS = {
    "simclr": (MLP, dict(hidden=32, width=8)),
    "moco": (MLP, dict(hidden=32, width=8, queue=256)),
    "ijepa": ({"name": "vit_micro", "patch": 2}, dict(predictor_width=32, predictor_depth=1)),
    "vae": (MLP, dict(code=4)),
    "dcgan": ({"name": "dcgan", "filters": 4}, dict(filters=4, noise=8)),
}
"""encoder and hyper-parameters by method, small enough for a repository"""
TINY = vit.Shape(depth=1, width=16, heads=2)
"""in place of the smallest transformer's, whose weights would take 15 MB; tests that read the run set it, too"""


def main() -> None:
    torch.set_num_threads(1)
    vit.SHAPES["vit_micro"] = TINY
    for name, (encoder, numbers) in RUNS.items():
        keep(Path(__file__).parent / sys.argv[1] / name, name, encoder, numbers)


def keep(kept: Path, name: str, encoder: dict, numbers: dict) -> None:
    optimize = session.optimize

    def stopped(*args):
        for record in optimize(*args):
            if record.clock.step == 5:
                os.kill(os.getpid(), signal.SIGTERM)
            yield record

    chosen = methods.method_class(name)
    method = replace(chosen.under(chosen.small), **numbers)
    options = dict(data="digits", epochs=2, batch=256, precision="float32", device="cpu")
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        session.optimize = stopped
        try:
            sanslabel.train(method=method, encoder=encoder, out=run, **options)
        except Stopped:
            shutil.copytree(run, kept, ignore=shutil.ignore_patterns(".lock", "metrics.jsonl"))
        session.optimize = optimize
        sanslabel.resume(run)
        sanslabel.evaluate(run, protocols=(KNN(draws=2), Linear(draws=2)), cache=False)
        for file in (*run.glob("encoder*.safetensors"), run / "config.json", run / "metrics.jsonl"):
            shutil.copy(file, kept)
        shutil.copytree(run / "evaluation", kept / "evaluation")
        with torch.no_grad():
            outputs = sanslabel.load_encoder(run)(open_source("digits").images[:4] / 255)
    checkpoint.write_json(kept / "outputs.json", {"first_four_digits": outputs.tolist()})
    sizes = {str(file.relative_to(kept)): file.stat().st_size for file in sorted(kept.rglob("*")) if file.is_file()}
    print(name, json.dumps(sizes))


if __name__ == "__main__":
    main()
