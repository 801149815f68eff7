"""Confidence-weighted preference optimization (CW-PO, arXiv:2603.04968): an open implementation."""

__version__ = "0.1.0"
