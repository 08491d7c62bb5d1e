"""Commands that yolo-train adds to ``yolo``."""
