"""Kernels in Triton for NVIDIA GPUs. Each has a plain twin in `backends.torch.ops`, which says what is right.

They exist because a step of a small model is bound by the number of launches, not by memory: a norm of six launches
becomes one of one. Without a GPU they run in Triton's interpreter (TRITON_INTERPRET=1), on host tensors.
"""
