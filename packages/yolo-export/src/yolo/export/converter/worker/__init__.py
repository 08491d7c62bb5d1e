"""The converter itself: ONNX in, SavedModel and TensorFlow Lite files out. Runs alone, in a process of its own.

It is started by :mod:`yolo.export.converter.process` with an interpreter that has TensorFlow and onnx2tf, and perhaps
nothing of ours; so it imports nothing of ours but its own modules, by relative names. Its working folder is its scratch
space. It is told what to do by one line of JSON on standard input, answers with lines of JSON on standard output, and
ends when standard input does: when whoever started it is gone, so is it. Everything that libraries print goes to
standard error, a log file.
"""
