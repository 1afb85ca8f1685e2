"""The backend on PyTorch. This runs before PyTorch is imported, which reads these settings but once.

oneDNN keeps a kernel for every size of step that it has seen, 1,024 of them and most of a megabyte each; making one
again takes 0.2 ms. Sources: oneDNN's developer guide, "Primitive Cache"; ideep's lru_cache.hpp.
"""

import os

KERNELS = "64"

os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS)
os.environ.setdefault("LRU_CACHE_CAPACITY", KERNELS)
