"""The test suites of other libraries, with and without ours in place."""
