"""What ``yolo predict`` writes, one kind of result per module, and in ``sinks`` what they have in common."""
