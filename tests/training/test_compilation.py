"""`--compile`: the same networks in compiled code."""

import json
import os
import signal
from pathlib import Path
from shutil import which

import pytest
import torch

import sanslabel
from sanslabel import checkpoint, encoders
from sanslabel.errors import BadInput
from sanslabel.memory import teacher_of
from sanslabel.methods.method import Networks
from sanslabel.training import compilation, session
from sanslabel.training.compilation import check_compiler, compile_
from sanslabel.training.signals import Stopped

MLP = {"name": "mlp", "hidden": [16]}
SMALL = dict(data="digits", encoder=MLP, batch=256, epochs=1, precision="float32", device="cpu")
"""5 steps"""


pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of what torch imports itself


def networks(run: Path) -> dict[str, torch.Tensor]:
    """All that a run ended with."""
    return checkpoint.read_tensors(checkpoint.newest(run / "checkpoints") / "networks.safetensors")


def compiled(net: torch.nn.Module) -> set[str]:
    """The names of modules that run as compiled code."""
    return {name for name, m in net.named_modules() if m._compiled_call_impl is not None}


def test_what_is_called_as_a_whole_is_compiled_and_state_keeps_its_names():
    net = Networks(encoder=encoders.build("conv", channels=1, image_size=8), projector=torch.nn.Linear(2, 2))
    net.teacher = teacher_of(net)
    names = list(net.state_dict())
    compile_(net)
    assert compiled(net) == {"encoder", "projector", "teacher.encoder", "teacher.projector"}
    assert list(net.state_dict()) == names


def test_of_a_transformer_each_block_is_compiled():
    net = Networks(encoder=encoders.build("vit_micro", channels=1, image_size=8))
    compile_(net)
    assert compiled(net) == {f"encoder.blocks.{i}" for i in range(6)}


@pytest.mark.skipif(which("g++") is None, reason="nothing to compile with")
def test_a_compiled_run_trains_as_any_other_and_resumes_to_the_same_bits(tmp_path, monkeypatch):
    plainly, run = (
        sanslabel.train(method="vicreg", out=tmp_path / name, compile=name == "compiled", **SMALL)
        for name in ("plain", "compiled")
    )
    assert json.loads((run.path / "run.json").read_text())["compile"] is True
    ours, theirs = networks(run.path), networks(plainly.path)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():  # all but biases under BatchNorm, which have no gradient but rounding
        if name.startswith("encoder") or name.endswith(("weight", "running_var", "num_batches_tracked")):
            torch.testing.assert_close(ours[name], tensor, rtol=0.02, atol=1e-3, msg=name)
    images = torch.rand(8, 1, 8, 8)
    torch.testing.assert_close(run.encoder()(images), plainly.encoder()(images), rtol=0.02, atol=0.01)

    original = session.optimize

    def interrupted(*arguments):
        for record in original(*arguments):
            if record.clock.step == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield record

    with monkeypatch.context() as patch:
        patch.setattr(session, "optimize", interrupted)
        with pytest.raises(Stopped):
            sanslabel.train(method="vicreg", out=tmp_path / "stopped", compile=True, **SMALL)
    sanslabel.resume(tmp_path / "stopped")
    again = networks(tmp_path / "stopped")
    assert all(torch.equal(again[name], tensor) for name, tensor in ours.items())


@pytest.mark.parametrize("options", [dict(chunk=4), dict(recompute=True, encoder="vit_micro"), dict(sharding="full")])
def test_what_it_does_not_go_with(tmp_path, options):
    with pytest.raises(BadInput, match="`compile`: does not go with"):
        sanslabel.train(method="simclr", out=tmp_path / "run", compile=True, **SMALL | options)
    assert not (tmp_path / "run").exists()


def test_without_a_compiler_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(compilation, "which", lambda name: None)
    with pytest.raises(BadInput, match="no C\\+\\+ compiler here; install one"):
        sanslabel.train(method="simclr", out=tmp_path / "run", compile=True, **SMALL)
    monkeypatch.undo()
    monkeypatch.setattr(compilation, "which", lambda name: name)
    monkeypatch.setattr(compilation, "find_spec", lambda name: None)
    check_compiler(torch.device("cpu"))
    with pytest.raises(BadInput, match="pip install triton"):
        check_compiler(torch.device("cuda"))
