import torch
from torch.utils.data import DataLoader
from retro import RETRO, RETRODataset

import numpy as np

NUM_CHUNKS = 1000
CHUNK_SIZE = 64
NUM_SEQS = 100
NUM_NEIGHBORS = 2

def save_memmap(path, tensor):
    f = np.memmap(path, dtype = tensor.dtype, mode = 'w+', shape = tensor.shape)
    f[:] = tensor
    del f

save_memmap(
    './train.chunks.dat',
    np.int32(np.random.randint(0, 8192, size = (NUM_CHUNKS, CHUNK_SIZE + 1)))
)

save_memmap(
    './train.chunks.knn.dat',
    np.int32(np.random.randint(0, 1000, size = (NUM_CHUNKS, NUM_NEIGHBORS)))
)

save_memmap(
    './train.seq.dat',
    np.int32(np.random.randint(0, 128, size = (NUM_SEQS,)))
)

train_ds = RETRODataset(
    num_sequences = NUM_SEQS,
    num_chunks = NUM_CHUNKS,
    num_neighbors = NUM_NEIGHBORS,
    chunk_size = CHUNK_SIZE,
    seq_len = 2048,
    chunk_memmap_path = './train.chunks.dat',
    chunk_nn_memmap_path = './train.chunks.knn.dat',
    seq_memmap_path = './train.seq.dat'
)

train_dl = iter(DataLoader(train_ds, batch_size = 2))

retro = RETRO(
    max_seq_len = 2048,
    enc_dim = 896,
    enc_depth = 3,
    dec_dim = 768,
    dec_depth = 12,
    dec_cross_attn_layers = (1, 3, 6, 9),
    heads = 8,
    dim_head = 64,
    dec_attn_dropout = 0.25,
    dec_ff_dropout = 0.25
).cuda()

seq, retrieved = map(lambda t: t.cuda(), next(train_dl))

loss = retro(
    seq,
    retrieved,
    return_loss = True
)

loss.backward()
