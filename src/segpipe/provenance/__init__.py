"""Where a file comes from, by what dvc.lock and git have on record. Reads only, and needs no network."""
