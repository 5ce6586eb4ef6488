"""The laws of a progress dataset as checks, and the checks of answers and contamination."""
