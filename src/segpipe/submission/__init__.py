"""What goes out: written as a contest takes it, read back by other code than wrote it, and checked. Needs no torch."""
