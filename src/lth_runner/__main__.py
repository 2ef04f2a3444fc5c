"""``python -m lth_runner`` is ``lth-run``."""

from lth_runner.cli.main import main

if __name__ == "__main__":
    main()
