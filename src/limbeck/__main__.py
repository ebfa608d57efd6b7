"""``python -m limbeck``, for launchers such as ``torchrun -m limbeck``."""

import sys

from limbeck.cli import main

if __name__ == "__main__":
    sys.exit(main())
