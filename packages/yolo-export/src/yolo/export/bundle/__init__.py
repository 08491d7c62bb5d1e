"""A folder with everything that a program without this software needs to run an exported model, and to prove it."""

from yolo.export.bundle.write import bundle_path, require_bundle, write_bundle

__all__ = ["bundle_path", "require_bundle", "write_bundle"]
