"""The report: one self-contained HTML page of what a run gave. `segpipe.report.page` writes it."""
