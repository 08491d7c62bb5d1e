"""Conformance kits for plugin authors: subclass one in your tests and set its fixture. Needs pytest."""
