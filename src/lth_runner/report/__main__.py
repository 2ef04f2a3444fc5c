"""`python -m lth_runner.report PATH...`: the same as `lth-report`."""

import sys

from lth_runner.report.command import main

sys.exit(main())
