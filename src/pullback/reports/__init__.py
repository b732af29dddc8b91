"""Pages for eyes: was this registration any good, and where not."""

from pullback.reports.page import write_report
from pullback.reports.view import RegistrationView

__all__ = ["RegistrationView", "write_report"]
