"""`python -P -m trainyard.cli`: the same as the console script."""

import sys

from trainyard.cli import main

sys.exit(main())
