"""`python jobs/verify.py ...` is, in a clone or a submitted folder, `frpipe run verify ...`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from frpipe.cli.main import script

main = script("verify")

if __name__ == "__main__":
    sys.exit(main())
