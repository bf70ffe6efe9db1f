"""`segpipe doctor`: will the pipeline run in this environment, what will it need, and what slows it down."""
