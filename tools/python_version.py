"""Exit with a clear message if Python is too old."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036  this is what it is for
    sys.exit("drawwell needs Python 3.11 or later; set PYTHON=python3.11 (or newer) on make's command line.")
