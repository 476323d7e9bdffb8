"""``python -m postfix_mtasts`` is the command ``postfix-mtasts``."""

import sys

from postfix_mtasts.cli import main

if __name__ == "__main__":
    sys.exit(main())
