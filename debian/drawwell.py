#!/usr/bin/python3 -I
import sys

from drawwell.__main__ import main

sys.exit(main())
