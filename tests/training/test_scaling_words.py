import pytest

import sanslabel
from sanslabel.errors import BadInput


def scaling_of_run(tmp_path, word: str) -> list[list[float]] | None:
    encoder = {"name": "mlp", "hidden": [8], "scaling": word}
    run = sanslabel.train("digits", method="autoencoder", encoder=encoder, epochs=1, seed=0, out=tmp_path / word)
    return run.known_plan.encoder.get("scaling")


def test_an_encoders_scaling_may_be_a_word(tmp_path):
    assert scaling_of_run(tmp_path, "raw") is None
    assert scaling_of_run(tmp_path, "signed") == [[0.5], [0.5]]
    standardized = scaling_of_run(tmp_path, "standardized")
    assert standardized is not None
    assert standardized[0][0] == pytest.approx(0.305, abs=0.01)


def test_another_word_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(BadInput, match="no scaling 'sigend': did you mean signed"):
        scaling_of_run(tmp_path, "sigend")
