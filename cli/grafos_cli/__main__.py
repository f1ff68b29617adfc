"""`python -m grafos_cli` is `grafos`, for whoever starts it from a program."""

from grafos_cli.main import main

main()
