"""The ``yolo`` command: a thin shell that finds its subcommands through the plugins of :mod:`yolo.core.plugins`."""
