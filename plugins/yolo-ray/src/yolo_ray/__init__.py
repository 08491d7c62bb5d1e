"""Training on a Ray cluster, found through the entry point group `yolo.plugins`."""
