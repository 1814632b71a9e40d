"""``python -m retro search``: the nearest chunks of a text."""

import argparse

from retro.commands.passages import print_neighbor
from retro.terminal import Subparsers, place


def add_parser(commands: Subparsers) -> None:
    """Add the command to the command line."""
    command = commands.add_parser("search", help="show the nearest chunks of a text")
    command.set_defaults(run_command=run)
    command.add_argument("corpus", type=place, metavar="CORPUS")
    command.add_argument("text", metavar="TEXT")
    command.add_argument("-k", type=int, default=5, help="how many (default 5)")


def run(arguments: argparse.Namespace) -> None:
    """Show the nearest chunks of a text."""
    from retro.corpus.corpus import Corpus  # noqa: PLC0415  # imports numpy and more

    retriever = Corpus.open(arguments.corpus).retriever()
    for neighbor in retriever.search_text(arguments.text, arguments.k):
        print_neighbor(
            {
                "distance": neighbor.score,
                **{
                    name: getattr(neighbor, name)
                    for name in ("rank", "document", "start", "end", "text", "continuation")
                },
            }
        )
