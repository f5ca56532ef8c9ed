"""prints its arguments in capitals"""

GROUP = "Mine"
USAGE = "shout WORD …"


def run(arguments: list[str]) -> None:
    """Prints the arguments in capitals."""
    print(" ".join(arguments).upper())
