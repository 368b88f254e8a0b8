"""The seams of other libraries: the same answers with ours in place as without."""
