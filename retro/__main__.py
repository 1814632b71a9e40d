"""The command line: ``python -m retro build | train | generate | search | export``."""

import argparse
import os
import sys
from collections.abc import Sequence

from retro.commands import build, export, generate, search, train
from retro.errors import RetroError
from retro.terminal import OneLineParser

COMMANDS = (build, train, generate, search, export)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = OneLineParser(prog="python -m retro", description=__doc__)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=OneLineParser
    )
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments after the program's name; None takes those of the process.

    Returns:
        Exit code: 0, or 1 after one line that says what was wrong.
    """
    arguments = make_parser().parse_args(argv)
    try:
        arguments.run_command(arguments)
    except RetroError as error:
        print(f"python -m retro {arguments.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output went away, as `head` does.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  # kept until the process ends
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
