"""Checks of what progdata makes: answers, and the laws of a dataset."""

from progdata.verifiers.grading import grade, grade_all
from progdata.verifiers.verdicts import Verdict

__all__ = ["Verdict", "grade", "grade_all"]
