"""Train and compare multimodal retrievers."""

__version__ = "0.1.0"
