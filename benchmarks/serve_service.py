"""The service itself, set by its `TRAINYARD_*` variables."""

import os
import sys

from common.settings import read_settings
from service.main import run

if __name__ == "__main__":
    sys.exit(run(read_settings(os.environ)))
