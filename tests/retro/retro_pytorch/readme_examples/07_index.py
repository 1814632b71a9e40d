from retro.retrieval import chunks_to_index_and_embed

index, embeddings = chunks_to_index_and_embed(
    num_chunks = 1000,
    chunk_size = 64,
    chunk_memmap_path = './train.chunks.dat'
)

query_vector = embeddings[:1]
_, indices = index.search(query_vector, k = 2)

neighbor_embeddings = embeddings[indices]
