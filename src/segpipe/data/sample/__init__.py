"""The embedded sample: drawn litter scenes in the layout and classes of the litter contest."""
