"""The doctor: checks what must always be true of a deployment, reports what is wrong, and repairs what it can."""

from backhaul.operations.doctor.finding import Finding, SurveyScope
from backhaul.operations.doctor.rounds import CHECKS, Examination, RepairResult, Treatment, examine, treat

__all__ = ["CHECKS", "Examination", "Finding", "RepairResult", "SurveyScope", "Treatment", "examine", "treat"]
