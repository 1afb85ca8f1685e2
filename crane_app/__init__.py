"""Crane: private, fast, local AI on MLX and PyTorch."""
