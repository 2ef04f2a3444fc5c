"""Download published datasets ahead of time, for machines without internet."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lth_runner.problem.data.published import PUBLISHED, load_published
from lth_runner.values.errors import UserError

EXAMPLES = """
examples:
  python scripts/fetch_data.py mnist cifar10 --root data
  python scripts/fetch_data.py --all --root /scratch/data

Run it where there is internet, then copy the folder to the machine without (rsync -a data/ ...)
and point runs at it: lth-run dataset=mnist dataset.root=/path/to/data
What is already in the folder is checked and not downloaded again.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"datasets to fetch: {', '.join(PUBLISHED)}"
    )
    parser.add_argument("--all", action="store_true", help="fetch every dataset named above")
    parser.add_argument(
        "--root", type=Path, default=Path("data"), help="folder to keep them in (default: data)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Fetch what was asked for; 0 when all of it is there, 1 when any failed."""
    arguments = parser().parse_args(argv)
    names = list(PUBLISHED) if arguments.all else arguments.names
    if not names:
        parser().print_help()
        return 2
    failed = 0
    for name in names:
        try:
            train, test = load_published(name, arguments.root)
        except UserError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed = 1
        else:
            print(f"{name}: {len(train[1])} training and {len(test[1])} test images, ready")
    return failed


if __name__ == "__main__":
    sys.exit(main())
