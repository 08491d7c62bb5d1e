"""The image cache: decoded pictures and labels of a data set in one LMDB file, plain or encrypted."""
