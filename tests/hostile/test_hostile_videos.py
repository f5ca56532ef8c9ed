"""Videos that somebody else has made: damaged, and asking for more memory than they are worth."""

import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sanslabel.errors import BadInput
from sanslabel.sources import Data, Request, open_source

pytest.importorskip("av")

from tests.hostile.test_fuzz import damaged, harmless
from tests.sources.video_files import moving, write_video

MOST, SECONDS = 200 << 20, 10.0
CODECS = {"mp4": "libx264", "mkv": "libvpx", "avi": "mjpeg", "mov": "mpeg4", "ts": "mpeg2video"}


@cache
def video(kind: str) -> bytes:
    with TemporaryDirectory() as folder:
        pixels = "yuvj420p" if kind == "avi" else "yuv420p"
        return write_video(Path(folder, f"a.{kind}"), moving(12), codec=CODECS[kind], pixels=pixels).read_bytes()


@pytest.mark.parametrize("kind", CODECS)
@settings(max_examples=25)
@given(data=st.data())
def test_videos(tmp_path, monkeypatch, kind, data):
    folder = tmp_path / "set"
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / ".cache"))
    (folder / f"a.{kind}").write_bytes(data.draw(damaged(video(kind))))
    with harmless(folder):
        source = open_source(Data((folder,)), image_size=16)
        assert source.load(Request(torch.arange(2))).images.pixels.dtype == torch.uint8


@given(content=st.binary(max_size=2000) | st.just(b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://a.b/c.ts\n"))
@settings(max_examples=40)
def test_anything_with_the_suffix_of_a_video(tmp_path, content):
    folder = tmp_path / "set"
    folder.mkdir(exist_ok=True)
    (folder / "a.mp4").write_bytes(content)
    with harmless(folder), pytest.raises(BadInput, match="give other videos"):
        open_source(Data((folder,)), image_size=16)


def announcing(content: bytes, what: str) -> bytes:
    """The content of an MP4 file whose header announces more than there is."""
    changed = bytearray(content)
    match what:
        case "samples":
            at = changed.index(b"stsz") + 8
            changed[at : at + 8] = (1).to_bytes(4, "big") + (10**9).to_bytes(4, "big")
        case "size":
            at = changed.rindex(b"avc1") + 28
            changed[at : at + 4] = (60_000).to_bytes(2, "big") * 2
        case "wide":
            at = changed.rindex(b"avc1") + 28
            changed[at : at + 4] = (60_000).to_bytes(2, "big") + (8).to_bytes(2, "big")
    return bytes(changed)


@pytest.mark.parametrize("what", ["samples", "size", "wide"])
def test_what_a_header_announces_is_refused_before_memory_is_taken(tmp_path, peak, what):
    file = tmp_path / "a.mp4"
    file.write_bytes(announcing(video("mp4"), what))
    began = time.perf_counter()

    def refused():
        with pytest.raises(BadInput, match=r"announces 1,000,000,000 frames|60,000 x .* too large to decode"):
            open_source(Data((file,)), image_size=16)

    assert peak(refused) < MOST
    assert time.perf_counter() - began < SECONDS


def test_a_size_in_the_header_of_an_mkv_takes_no_memory(tmp_path, peak):
    """The stream states the size of frames, too, and the header of the file states another one here."""
    file = write_video(tmp_path / "a.mkv", moving(3, width=320))
    content = bytearray(file.read_bytes())
    place = content.index(b"\xb0\x82" + (320).to_bytes(2, "big"))
    content[place + 2 : place + 4] = (60_000).to_bytes(2, "big")
    file.write_bytes(content)

    def opened():
        with suppress(BadInput):
            open_source(Data((file,)), image_size=16)

    assert peak(opened) < MOST
