"""How long each fuzzing test runs: a short time, or `RAQCOON_TEST_FUZZ_SECONDS` if that is set."""

import os

FUZZ_SECONDS = float(os.environ.get("RAQCOON_TEST_FUZZ_SECONDS", "0"))
