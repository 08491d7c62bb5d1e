"""The commands of yolo-data."""
