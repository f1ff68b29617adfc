"""`python -m grafos_cli` is `grafos`, for whoever starts it from a program."""

import sys

from grafos_cli.main import main

sys.exit(main())
