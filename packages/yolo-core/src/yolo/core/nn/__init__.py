"""The building blocks of the networks, one family a file; :mod:`yolo.core.nn.registry` finds them by name."""
