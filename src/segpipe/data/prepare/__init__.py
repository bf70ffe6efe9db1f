"""From the user's files to the prepared data set, once: checked, rasterised, resized, packed, split."""
