"""Pages for eyes: was this registration any good, and where not."""

from pullback.reports.cohort import Row, read_rows, write_cohort
from pullback.reports.page import write_report
from pullback.reports.saved import SavedResult, read_result
from pullback.reports.thumbnail import write_thumbnail
from pullback.reports.view import RegistrationView

__all__ = [
    "RegistrationView",
    "Row",
    "SavedResult",
    "read_result",
    "read_rows",
    "write_cohort",
    "write_report",
    "write_thumbnail",
]
