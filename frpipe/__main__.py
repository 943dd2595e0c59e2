"""`python -m frpipe`: the `frpipe` command."""

from __future__ import annotations

import sys

from frpipe.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
