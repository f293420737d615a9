"""The fault cases, declared once for all tests of this folder."""

from prove.runner import load_cases

load_cases()
