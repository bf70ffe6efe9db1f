"""segpipe: a DVC pipeline for semantic segmentation."""
