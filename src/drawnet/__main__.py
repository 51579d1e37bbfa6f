"""`python -m drawnet` is the command `drawnet`."""

from drawnet.cli import main

main()
