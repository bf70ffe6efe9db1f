"""`segpipe show ...`: what params.yaml will do, drawn before anything runs."""
