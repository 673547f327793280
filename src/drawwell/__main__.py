"""Run the program as ``python -m drawwell``."""

import sys

from drawwell.cli import main

sys.exit(main())
