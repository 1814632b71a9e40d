import torch
from retro import RETRO, TrainingWrapper

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

wrapper = TrainingWrapper(
    retro = retro,
    knn = 2,
    chunk_size = 64,
    documents_path = './text_folder',
    glob = '**/*.txt',
    chunks_memmap_path = './train.chunks.dat',
    seqs_memmap_path = './train.seq.dat',
    doc_ids_memmap_path = './train.doc_ids.dat',
    max_chunks = 1_000_000,
    max_seqs = 100_000,
    knn_extra_neighbors = 100,
    max_index_memory_usage = '100m',
    current_memory_available = '1G'
)

train_dl = iter(wrapper.get_dataloader(batch_size = 2, shuffle = True))
optim = wrapper.get_optimizer(lr = 3e-4, wd = 0.01)

seq, retrieved = map(lambda t: t.cuda(), next(train_dl))

loss = retro(
    seq,
    retrieved,
    return_loss = True
)

loss.backward()
optim.step()
optim.zero_grad()

sampled = wrapper.generate(filter_thres = 0.9, temperature = 1.0)

prompt = torch.randint(0, 1000, (1, 128))
sampled = wrapper.generate(prompt, filter_thres = 0.9, temperature = 1.0)
