"""One self-contained HTML page that says how good a set of ensemble forecasts is, and shows it."""

from weatherdiff.report.write import write_report

__all__ = ["write_report"]
