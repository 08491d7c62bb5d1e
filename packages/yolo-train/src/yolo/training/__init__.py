"""yolo.training"""
