"""How long the fuzzing tests run: a moment by default, `RAQCOON_TEST_FUZZ_SECONDS` each where it is set."""

import os

FUZZ_SECONDS = float(os.environ.get("RAQCOON_TEST_FUZZ_SECONDS", "0"))
