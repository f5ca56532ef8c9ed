"""Commands, one file each. Every file in this folder is a command; there is no list of them.

A command's file begins with a docstring; `sanslabel --help` shows its first line. The file also has

    GROUP = "Measure"                          the heading of the command in `sanslabel --help`
    USAGE = "report RUN [RUN …]"               how the command is called
    def run(arguments: list[str]) -> None      does the work; `arguments` are those after the command's name

It imports nothing heavy outside of `run`, so that `--help` answers at once. A person's own commands are files in
`commands/` of a folder that SANSLABEL_PATH names.
"""

from sanslabel.discovery import search_path

__path__ = search_path(__path__, "commands")
