"""`python jobs/publish.py ...` is, in a clone or a submitted folder, `frpipe run publish ...`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from frpipe.cli.main import script

main = script("publish")

if __name__ == "__main__":
    sys.exit(main())
