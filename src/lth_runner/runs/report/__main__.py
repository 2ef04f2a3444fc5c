"""``python -m lth_runner.runs.report PATH...`` is the same as ``lth-report``."""

import sys

from lth_runner.runs.report.command import main

sys.exit(main())
