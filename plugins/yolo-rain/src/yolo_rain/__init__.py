"""Synthetic rain: an augmentation and a command, found through the entry point group `yolo.plugins`."""
