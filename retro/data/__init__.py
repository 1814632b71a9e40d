"""Text in: documents, tokenizer, chunks, training sequences."""
