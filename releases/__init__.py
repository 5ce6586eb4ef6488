"""Recipe -> build on disk -> lock file -> release."""
