"""The ``report`` stage: what was measured, as one page."""

from policyport.hil.report.stage import CODE, ReportConfig, report

__all__ = ["CODE", "ReportConfig", "report"]
