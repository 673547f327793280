#!/usr/bin/python3 -I
import sys

from drawwell.cli import main

sys.exit(main())
