"""A run on pictures of which many cannot be read."""

import numpy as np
import pytest
from PIL import Image

import sanslabel
from sanslabel.errors import BadInput
from sanslabel.evaluation.protocols.finetune import Finetune
from sanslabel.run_folder import RunFolder

OPTIONS = dict(encoder="mlp", image_size=8, batch=8, device="cpu", workers=0)


@pytest.fixture
def photos(tmp_path):
    """40 pictures in two classes, of which a fifth cannot be read."""
    draw = np.random.default_rng(0)
    for row in range(40):
        file = tmp_path / "photos" / "ab"[row % 2] / f"{row:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (8, 8, 3), np.uint8)).save(file)
        if row % 5 == 0:
            file.write_bytes(b"damaged")
    return tmp_path / "photos"


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_it_goes_on_without_them(photos, tmp_path, cache):
    with pytest.raises(BadInput, match=r"more than 1 % of the 40 samples cannot be read: .*; add `skip_unreadable` to"):
        sanslabel.train(photos, out=tmp_path / "stopped", epochs=1, cache=cache, **OPTIONS)
    run = sanslabel.train(photos, out=tmp_path / "run", epochs=1, cache=cache, skip_unreadable=True, **OPTIONS)
    assert len(run.bad_samples()) == 8
    assert RunFolder.open(run.path).known_plan.skip_unreadable
    protocols = ["knn", "linear", "cluster", "layers", "retrieval", "relation", "invariance", Finetune(steps=1)]
    scores = sanslabel.evaluate(run.path, protocols=protocols, baselines=False, cache=False)
    assert sum((scores[0].n_train, scores[0].n_test)) == 32
    measured = {score.protocol: score.n_test for score in scores}
    assert measured == dict.fromkeys(measured, scores[0].n_test), "none counts what it could not read"
    assert len(measured) == len(protocols)
    sanslabel.resume(run.path)
    assert not (tmp_path / "stopped").exists()
