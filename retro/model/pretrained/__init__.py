"""Pretrained causal language models of transformers that read neighbors."""
