"""``python -m chaosd``."""

from chaosd.cli.main import main

main()
