"""Formats of data. Every file in this folder, or in `formats/` of a folder in SANSLABEL_PATH, is a format.

A format has two functions. `splits(data)` returns the names of the splits of a path or name, or None if the data have
another format. `open_source(data, split, wanted)` returns the source. A format may also define `NAMES`, the sets that
it knows by name. With `FALLBACK = True`, it reads only data that no other format reads. With `SIGNALS`, it reads data
only for methods of all these signals.
"""

from sanslabel.discovery import search_path

__path__ = search_path(__path__, "formats")
