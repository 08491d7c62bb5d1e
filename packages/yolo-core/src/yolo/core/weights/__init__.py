"""Files of weights: reading them without running anything in them, names, transfer, download, and what we write.

From bytes to a network: ``file`` (``foreign`` for pickles of other code) gives tensors and plain data, ``read`` finds
the weights by name (``official`` renames), ``load`` finds the network, ``bundle`` builds it; ``transfer`` puts weights
into another network. ``published`` says what there is to fetch, ``download`` fetches it, ``convert`` writes.
"""
