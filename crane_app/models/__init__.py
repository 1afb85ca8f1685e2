"""Architectures, written once over `contract.Ops`; nothing here knows a tensor library."""
