"""The network in the form that is exported."""
