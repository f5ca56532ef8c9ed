"""Folders of pictures and sounds with one stem: which pairs there are, and that no picture gets another one's sound."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sanslabel.errors import BadInput
from sanslabel.randomness import Stream, bits, fold
from sanslabel.sources import Data, Request, batches, open_source
from sanslabel.sources.pictures.images import ImagesFrom
from sanslabel.sources.sounds.sounds import Sounds
from sanslabel.sources.sounds.with_sounds import WithSounds

soundfile = pytest.importorskip("soundfile")


def picture(path: Path, gray: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), gray).save(path)


def sound(path: Path, level: float, seconds: float = 0.1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = np.full(round(16_000 * seconds), level)
    wave[::2] *= -1
    soundfile.write(path, wave, 16_000)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Ten pairs whose gray value is that of the sound's level, in two classes."""
    for row in range(10):
        name = f"{'even' if row % 2 == 0 else 'odd'}/{row}"
        picture(tmp_path / f"set/{name}.png", 10 * row)
        sound(tmp_path / f"set/{name}.wav", (row + 1) / 20)
    return tmp_path / "set"


def open_pairs(folder):
    return open_source(Data((folder,), signals=("image", "audio")))


def agree(loaded) -> bool:
    """Returns True if each picture has its own sound."""
    gray = loaded.signals["image"].pixels[:, 0, 0, 0].long() // 10
    level = (loaded.signals["audio"].waves[:, 0].abs().amax(1).float() / 32768 * 20).round().long() - 1
    return torch.equal(gray, level)


def test_a_picture_and_its_sound_are_a_sample(folder):
    source = open_pairs(folder)
    assert isinstance(source, WithSounds)
    assert set(source.inputs) == {"image", "audio"}
    assert source.noun == "pair of image and sound"
    assert source.classes == ("even", "odd")
    assert source.id(5) == "odd/1.png"
    assert isinstance(source.pictures, ImagesFrom)
    index = torch.tensor([7, 0, 3])
    loaded = source.load(Request(index))
    assert torch.equal(loaded.index, index)
    assert loaded.signals["audio"].waves.shape == (3, 1, 32_000)
    assert agree(loaded)
    assert agree(source.subset(index).load(Request(torch.arange(3))))
    _, batch = next(batches(source, 4, seed=0, epochs=1, device=torch.device("cpu")))
    assert set(batch.signals) == {"image", "audio", "label"}


def test_a_method_of_pictures_reads_all_pictures(folder):
    picture(folder / "odd/alone.png", 5)
    source = open_source(folder)
    assert isinstance(source, ImagesFrom)
    assert len(source) == 11
    assert source.remarks == ("Files that are not read: 10 WAV.",)


def test_files_without_a_partner_are_counted(folder):
    picture(folder / "odd/alone.png", 5)
    sound(folder / "9.wav", 0.5)
    sound(folder / "even/0.flac", 0.9)  # a second sound of one picture
    (folder / "notes.txt").write_text("x")
    source = open_pairs(folder)
    assert len(source) == 10
    assert "Files that are not read: 1 TXT." in source.remarks
    assert "Left out, since they make no pair: 1 picture, 2 sounds." in source.remarks


def test_silent_pairs_are_left_out(folder):
    sound(folder / "even/4.wav", 1e-5)
    source = open_pairs(folder)
    assert len(source) == 9
    assert agree(source.load(Request(torch.arange(9))))
    assert "Left out, since their sound is silent: 1 picture." in source.remarks
    assert any("Silent, below -60 dB, and left out: 1 (10.0 %)." in remark for remark in source.remarks)


def test_an_unreadable_half_takes_the_pair_with_it(folder):
    (folder / "even/2.png").write_bytes(b"damaged")
    (folder / "even/4.wav").write_bytes(b"damaged")
    source = open_pairs(folder)
    loaded = source.load(Request(torch.arange(10)))
    assert loaded.index.tolist() == [0, 3, 3, 3, 4, 5, 6, 7, 8, 9]
    assert agree(loaded)
    assert {bad.id for bad in loaded.replaced} == {"even/2.png", "even/4.png"}
    assert any(bad.reason.startswith("even/4.wav: ") for bad in loaded.replaced)


def test_the_window_is_drawn_by_key_among_audible_ones(folder):
    wave = np.concatenate([np.full(32_000, level) for level in (0.1, 0.0, 0.2, 0.3)])
    soundfile.write(folder / "even/6.wav", wave, 16_000)
    source = open_pairs(folder)
    row = [source.id(row) for row in range(10)].index("even/6.png")
    begins = []
    for key in range(40):
        audio = source.load(Request(torch.tensor([row]), key)).signals["audio"]
        level = round(float(audio.waves[0, 0, 0]) / 3276.8)
        draw = int(bits(torch.tensor([fold(key, row, Stream.SOUND)]), 1, 0))
        assert level == (1, 2, 3)[draw * 3 >> 32]
        begins.append(level)
    assert set(begins) == {1, 2, 3}


def test_stray_files_of_the_other_kind_are_left_out(folder, tmp_path):
    for row in range(11):
        picture(tmp_path / f"pictures/{row}.png", row)
        sound(tmp_path / f"sounds/{row}.wav", 0.5)
    sound(tmp_path / "pictures/song.wav", 0.5)
    picture(tmp_path / "sounds/cover.png", 5)
    assert isinstance(open_source(tmp_path / "pictures"), ImagesFrom)
    sounds = open_source(tmp_path / "sounds")
    assert isinstance(sounds, Sounds)
    assert sounds.remarks[0] == "Files that are not read: 1 PNG."


def test_pictures_and_sounds_without_a_common_stem_are_refused(tmp_path):
    for name in ("a", "b", "c", "d"):
        picture(tmp_path / f"set/{name}.png", 5)
        sound(tmp_path / f"set/{name}1.wav", 0.5)
    with pytest.raises(
        BadInput, match=r"no picture and sound share a stem.*a.png, b.png, c.png and 1 more; the sounds"
    ):
        open_pairs(tmp_path / "set")


def test_another_pairing_is_other_data(folder):
    first = open_pairs(folder).fingerprint
    assert open_pairs(folder).fingerprint == first
    sound(folder / "even/0.wav", 0.9, 0.2)
    assert open_pairs(folder).fingerprint != first
