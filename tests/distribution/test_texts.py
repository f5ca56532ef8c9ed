"""Texts on two processes, which pad alike, average over the tokens of both, and make the same vocabulary."""

import pytest
from safetensors.torch import load_file

pytest.importorskip("tokenizers")

from sanslabel import methods
from sanslabel.checkpoint import sha256
from tests.distribution.test_runs import ended, started

pytestmark = pytest.mark.faults

WORDS = {"cat": "chat", "dog": "chien", "bird": "oiseau", "house": "maison", "tree": "arbre", "king": "roi"}
METHODS = [name for name in methods.names() if "source" in methods.method_class(name).signals]
ARGUMENTS = ["--batch", "32", "--epochs", "2", "--precision", "float32", "--no-evaluate", "--device", "cpu"]


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_train_on_texts_of_unequal_lengths_as_one_process_does(tmp_path, method):
    lines = [[list(WORDS)[(n * k + k) % 6] for k in range(1, 2 + n % 12)] for n in range(200)]
    source, target = tmp_path / "a.en", tmp_path / "a.fr"
    source.write_text("\n".join(f"{' '.join(line)} {n}" for n, line in enumerate(lines)))
    target.write_text("\n".join(f"{n} {' '.join(map(WORDS.__getitem__, line))}" for n, line in enumerate(lines)))
    weights, vocabularies = [], set()
    for world in (1, 2):
        run = tmp_path / str(world)
        command = [method, *ARGUMENTS, "--data", str(source), str(target), "--out", str(run)]
        for code, _, errors in ended(started(run, *command, world=world)):
            assert code == 0, errors
        weights.append(load_file(run / "encoder.safetensors"))
        vocabularies.add(sha256(run / "tokenizer.json"))
    assert len(vocabularies) == 1
    for name, alone in weights[0].items():
        apart = (weights[1][name] - alone).abs()  # rounding, which the optimizer divides by small gradients
        assert apart.max() < 1e-3, name
        assert apart.mean() < 1e-4, name
