"""TensorFlow's converters, kept in a process and, where it must be, in an environment of their own."""
