"""``python -m yolo.cli``: the same as the ``yolo`` command."""

import sys

from yolo.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
