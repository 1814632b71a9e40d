import torch
from retro import RETRO

retro = RETRO(
    chunk_size = 64,
    max_seq_len = 2048,
    enc_dim = 896,
    enc_depth = 2,
    dec_dim = 796,
    dec_depth = 12,
    dec_cross_attn_layers = (3, 6, 9, 12),
    heads = 8,
    dim_head = 64,
    dec_attn_dropout = 0.25,
    dec_ff_dropout = 0.25,
    use_deepnet = True
)

seq = torch.randint(0, 20000, (2, 2048 + 1))
retrieved = torch.randint(0, 20000, (2, 32, 2, 128))

loss = retro(seq, retrieved, return_loss = True)
loss.backward()
