"""Candidates for the submission, what is fitted on tune images, judge scores, and the choice between them."""
