from retro.retrieval import chunks_to_precalculated_knn_

chunks_to_precalculated_knn_(
    num_chunks = 1000,
    chunk_size = 64,
    chunk_memmap_path = './train.chunks.dat',
    doc_ids_memmap_path = './train.doc_ids.dat',
    num_nearest_neighbors = 2,
    num_extra_neighbors = 10
)
