"""Data: reading annotation files, checking them, preparing and loading what training sees."""
