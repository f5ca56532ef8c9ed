"""Commands, one file each, found by looking in this folder: a new file is a new command.

A command's file has a docstring, whose first line is its line of `sanslabel --help`, and

    GROUP = "Measure"                          the heading that it stands under
    USAGE = "report RUN [RUN …]"               how it is called
    def run(arguments: list[str]) -> None      does the work; `arguments` are those after the command's name

It imports nothing heavy before `run`, so that `--help` answers at once. A person's own commands lie in `commands/` of a
folder that SANSLABEL_PATH names.
"""

from sanslabel.discovery import search_path

__path__ = search_path(__path__, "commands")
