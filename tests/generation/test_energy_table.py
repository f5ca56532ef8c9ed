import csv
import shutil
from io import BytesIO
from math import log

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from sanslabel.errors import BadInput
from sanslabel.generation import energy_table
from sanslabel.generation.complexity import compressed_nats
from sanslabel.generation.energy_table import auroc, image_energies
from sanslabel.generation.model import open_model
from sanslabel.sources import Request, open_source


@pytest.fixture
def noise(tmp_path):
    """A file of images of noise, of the size of digits."""
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "noise.npy", images)
    return tmp_path / "noise.npy"


@pytest.mark.parametrize("method", ["autoencoder", "dae", "vae", "ebgan", "dcgan"])
def test_a_table_of_energies_sorted_from_the_lowest(runs, noise, tmp_path, method):
    found = energy_table(runs(method), against=noise, out=tmp_path / "energies.csv")
    with found.path.open() as file:
        rows = list(csv.DictReader(file))
    values = [float(row["energy"]) for row in rows]
    test = open_source("digits", "test")
    assert values == sorted(values)
    assert len(rows) == found.count == len(test) + 50
    assert {row["set"] for row in rows} == {"digits", str(noise)}
    assert len({(row["set"], row["id"]) for row in rows}) == len(rows)
    labels = [row["set"] != "digits" for row in rows]
    assert found.auroc == pytest.approx(roc_auc_score(labels, values))
    model = open_model(runs(method))
    own, _ = image_energies(model, test)
    assert found.median == pytest.approx(own.median().item())
    if method in ("autoencoder", "dae", "vae"):
        assert found.auroc > 0.9, "noise is not like digits"


def test_parquet_holds_the_same(runs, noise, tmp_path):
    from pyarrow import parquet

    energy_table(runs("vae"), out=tmp_path / "e.csv")
    energy_table(runs("vae"), out=tmp_path / "e.parquet")
    table = parquet.read_table(tmp_path / "e.parquet")
    with (tmp_path / "e.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert table["id"].to_pylist() == [row["id"] for row in rows]
    assert table["energy"].to_pylist() == [float(row["energy"]) for row in rows]
    with pytest.raises(BadInput, match=r"\.csv or \.parquet"):
        energy_table(runs("vae"), out=tmp_path / "e.txt")


def test_auroc_is_the_share_of_pairs():
    inside, outside = torch.tensor([0.0, 1.0, 1.0]), torch.tensor([1.0, 2.0])
    pairs = [(o > i) + 0.5 * (o == i) for i in inside.tolist() for o in outside.tolist()]
    assert auroc(inside, outside) == pytest.approx(sum(pairs) / 6)
    assert auroc(inside, inside) == 0.5
    a, b = torch.randn(200), torch.randn(100) + 0.3
    assert auroc(a, b) == pytest.approx(roc_auc_score([0] * 200 + [1] * 100, torch.cat([a, b]).numpy()))


def test_complexity_is_the_size_of_the_smaller_lossless_compression():
    flat, noisy = torch.full((1, 1, 28, 28), 0.5), torch.rand(1, 1, 28, 28)
    small, large = compressed_nats(torch.cat([flat, noisy])).tolist()
    entropy = 784 * 8 * log(2)
    assert small < 100 * 8 * log(2)
    assert entropy * 0.98 < large < entropy * 1.2
    ramp = torch.linspace(0, 1, 28).expand(1, 1, 28, 28)
    for images in (noisy, ramp, ramp.mT, noisy.round()):
        picture = Image.fromarray((images[0, 0] * 255).round().byte().numpy())
        sizes = []
        for coder in ({"format": "PNG", "optimize": True}, {"format": "WEBP", "lossless": True}):
            picture.save(file := BytesIO(), **coder)
            sizes.append(len(file.getvalue()))
        assert compressed_nats(images).item() == pytest.approx(8 * log(2) * min(sizes))


def test_complexity_of_colors_and_of_other_channels():
    gray = torch.rand(2, 1, 8, 8)
    once, color, pair = (compressed_nats(gray.expand(-1, channels, -1, -1)) for channels in (1, 3, 2))
    assert (color < 2 * once).all(), "channels that say the same"
    assert (pair < 2 * once).all()
    assert compressed_nats(torch.rand(2, 3, 8, 8)).min() > 2 * once.max()


def test_what_complexity_costs_is_the_slope_in_the_training_data(runs):
    for method in ("vae", "autoencoder"):
        found = energy_table(runs(method), complexity=True)
        model, train, test = open_model(runs(method)), open_source("digits", "train"), open_source("digits", "test")
        values, rows = image_energies(model, train)
        sizes = compressed_nats(train.load(Request(rows)).images.pixels.float() / 255).double()
        slope, _ = np.polyfit(sizes.numpy(), values.numpy(), 1)
        assert found.slope == pytest.approx(slope, rel=1e-4)
        plain, rows = image_energies(model, test)
        less, _ = image_energies(model, test, 2.0)
        sizes = compressed_nats(test.load(Request(rows)).images.pixels.float() / 255).double()
        torch.testing.assert_close(less, plain - 2 * sizes, rtol=1e-5, atol=1e-3)


def test_what_has_no_energy_and_what_is_no_foreign_set(runs):
    with pytest.raises(BadInput, match="SimCLR cannot give single images an energy; train one of autoencoder, dae"):
        energy_table(runs("simclr"))
    with pytest.raises(BadInput, match="the same images"):
        energy_table(runs("vae"), against="digits")


def test_a_table_of_other_sets_is_not_overwritten(runs, noise, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs("autoencoder"), run)
    (run / "energies.csv").unlink(missing_ok=True)
    made = [energy_table(run, against=against).path.name for against in (noise, None, noise, None)]
    assert made == ["energies.csv", "energies-2.csv", "energies.csv", "energies-2.csv"]
    assert energy_table(run, noise).path.name == "energies-3.csv"
