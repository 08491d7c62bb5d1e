"""What loads an exported file again, one module per format, and in ``base`` what they have in common."""
