"""The command ``scbetavae``, also as ``python -m scbetavae``."""

import sys

from scbetavae.cli import main

if __name__ == "__main__":
    sys.exit(main())
