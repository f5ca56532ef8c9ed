"""Encoders: networks from inputs, such as images (N, C, H, W), to one vector each, (N, D).

`build` makes an encoder from its name, and `build(**encoder.config)` makes another of the same architecture. Every
subclass of `Encoder` with `names` is found, in files of this folder and of `encoders/` of a folder in SANSLABEL_PATH.
"""

from sanslabel.discovery import search_path

__path__ = search_path(__path__, "encoders")

from sanslabel.encoders.build import build, encoder_class, encoder_options, names, outline
from sanslabel.encoders.dcgan import DCGAN
from sanslabel.encoders.encoder import Encoder
from sanslabel.encoders.linear_code import LinearCode

__all__ = ["DCGAN", "Encoder", "LinearCode", "build", "encoder_class", "encoder_options", "names", "outline"]
