"""`python -m rnnnorm` is the command `rnnnorm`."""

from __future__ import annotations

import sys

from rnnnorm.cli import main

sys.exit(main())
