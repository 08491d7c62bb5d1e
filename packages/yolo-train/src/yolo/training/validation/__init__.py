"""Measuring a checkpoint or an exported file on a split: what is measured, on what, how fast, and what is written."""
