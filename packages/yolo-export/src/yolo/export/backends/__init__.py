"""One module per file format, and in ``base`` what they have in common."""
