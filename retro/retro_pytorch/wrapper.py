"""From a folder of text to training batches and generated sequences in a few lines."""

import inspect
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from retro.config.checks import MOST_NEIGHBORS
from retro.errors import ConfigError, shown
from retro.model.retro.model import RETRO
from retro.retro_pytorch.arguments import check_names, checks_arguments, count
from retro.retro_pytorch.dataset import RETRODataset
from retro.retro_pytorch.encoder import EncoderName, open_encoder
from retro.retro_pytorch.files import as_path
from retro.retro_pytorch.filters import top_k as top_k
from retro.retro_pytorch.filters import top_p as top_p
from retro.retro_pytorch.folder import FolderSettings, processed_folder
from retro.retro_pytorch.index import IndexedChunks, IndexSettings
from retro.retro_pytorch.memory import MemorySize
from retro.retro_pytorch.neighbors import (
    MOST_EXTRA,
    FilePath,
    precalculated_neighbors,
)
from retro.retro_pytorch.search import ChunkSearch
from retro.retro_pytorch.writing import (
    Filter,
    Sampler,
    check_prompt,
    check_retrieved,
    evaluating,
    generate_batch,
)
from retro.training.optimizer import parameter_groups

FORCE_VARIABLE = "REPROCESS"


class TrainingWrapper(nn.Module):
    """Makes all that training RETRO needs of a folder of text, and generates with it.

    Chunks, keys, index and neighbors are kept with what they were made from; when the
    folder, a setting or the encoder changes, what depends on it is made again. The
    environment variable ``REPROCESS=1`` makes everything again.

    Args:
        retro: The model.
        chunk_size: Tokens per chunk, that of the model.
        documents_path: Folder of text.
        knn: Neighbors per chunk.
        glob: Which files of the folder.
        chunks_memmap_path: Where the chunks are kept; keys, index and neighbors lie beside.
        seqs_memmap_path: Where the sequences are kept.
        doc_ids_memmap_path: Where the document of each chunk is kept.
        max_chunks: Most chunks.
        max_seqs: Most sequences.
        knn_extra_neighbors: Fewest candidates beyond ``knn`` that are asked from the index.
        processed_stats_json_path: Where it stands what the files were made from.
        faiss_index_filename: Name of the index.
        max_index_memory_usage: Most the index may take, as ``'100m'``, ``'1G'`` or bytes.
        current_memory_available: Most that building the index may hold.
        encoder: Hub name or folder of the encoder; None is what ``RETRO_ENCODER`` says, or
            ``bert-base-cased``.

    Attributes:
        stats: ``{"chunks", "docs", "seqs"}``.
        ds: The ``RETRODataset``.

    Raises:
        ConfigError: An argument is unknown, outside its range or does not fit the model.
        InputError: There is no text in the folder.
        ArtifactMissingError: The encoder cannot be had.
        DiskFullError: The disk is full; what was finished is kept.
    """

    @checks_arguments
    def __init__(
        self,
        *,
        retro: RETRO,
        chunk_size: int,
        documents_path: FilePath,
        knn: int,
        glob: str = "**/*.txt",
        chunks_memmap_path: FilePath = "./train.chunks.dat",
        seqs_memmap_path: FilePath = "./train.seq.dat",
        doc_ids_memmap_path: FilePath = "./train.doc_ids.dat",
        max_chunks: int = 1_000_000,
        max_seqs: int = 100_000,
        knn_extra_neighbors: int = 100,
        processed_stats_json_path: FilePath = "./processed-stats.json",
        faiss_index_filename: str = "knn.index",
        max_index_memory_usage: MemorySize = None,
        current_memory_available: MemorySize = None,
        encoder: EncoderName = None,
    ) -> None:
        super().__init__()
        _check_model(retro, chunk_size)
        knn = count("knn", knn, 1, MOST_NEIGHBORS)
        num_extra = count("knn_extra_neighbors", knn_extra_neighbors, 0, MOST_EXTRA)
        force = os.environ.get(FORCE_VARIABLE, "").lower() in ("1", "true", "t")
        settings = IndexSettings(
            index_file=faiss_index_filename,
            max_index_memory_usage=max_index_memory_usage,
            current_memory_available=current_memory_available,
            encoder=encoder,
            force=force,
        )
        paths = {
            "chunks": as_path("chunks_memmap_path", chunks_memmap_path),
            "seqs": as_path("seqs_memmap_path", seqs_memmap_path),
            "doc_ids": as_path("doc_ids_memmap_path", doc_ids_memmap_path),
        }
        _check_tokens(retro, encoder)
        self.retro = retro
        self.chunk_size = retro.chunk_size
        self.max_seq_len = retro.seq_len
        folder = FolderSettings(
            glob=glob,
            chunk_size=self.chunk_size,
            seq_len=self.max_seq_len,
            max_chunks=max_chunks,
            max_seqs=max_seqs,
        )
        self.stats = processed_folder(
            as_path("documents_path", documents_path),
            paths,
            as_path("processed_stats_json_path", processed_stats_json_path),
            folder,
            encoder=encoder,
            force=force,
        )
        made, knn_path = self._find_neighbors(paths, knn, num_extra, settings)
        self.search = ChunkSearch(made, num_neighbors=knn, num_extra=num_extra)
        self.ds = self._dataset(paths, knn_path)

    def _find_neighbors(
        self, paths: Mapping[str, Path], knn: int, num_extra: int, settings: IndexSettings
    ) -> tuple[IndexedChunks, Path]:
        path, made = precalculated_neighbors(
            paths["chunks"],
            paths["doc_ids"],
            num_chunks=self.stats["chunks"],
            chunk_size=self.chunk_size,
            num_neighbors=knn,
            num_extra=num_extra,
            window=self.max_seq_len,
            settings=settings,
        )
        return made, path

    def _dataset(self, paths: Mapping[str, Path], knn_path: Path) -> RETRODataset:
        return RETRODataset(
            num_chunks=self.stats["chunks"],
            chunk_size=self.chunk_size,
            seq_len=self.max_seq_len,
            num_sequences=self.stats["seqs"],
            num_neighbors=self.search.num_neighbors,
            chunk_memmap_path=paths["chunks"],
            chunk_nn_memmap_path=knn_path,
            seq_memmap_path=paths["seqs"],
            eos_id=self.search.eos_id,
            pad_id=self.search.pad_id,
        )

    def get_dataloader(self, **options: Any) -> "DataLoader[tuple[Tensor, Tensor]]":
        """Return batches of the dataset: (batch, max_seq_len + 1) and (batch, chunks, knn, tokens).

        Args:
            **options: Those of ``torch.utils.data.DataLoader``, ``dataset`` aside.

        Raises:
            ConfigError: There is no such option.
        """
        known = [*inspect.signature(DataLoader.__init__).parameters][2:]
        check_names("get_dataloader", options, known)
        return DataLoader(self.ds, **options)

    @checks_arguments
    def get_optimizer(
        self, lr: float = 3e-4, wd: float = 1e-1, filter_by_requires_grad: bool = False
    ) -> torch.optim.AdamW:
        """Return AdamW with weight decay on matrices, not on embeddings, norms and gates.

        The order of the parameters is the same in every process, so a saved state can be
        loaded again.

        Args:
            lr: Learning rate.
            wd: Weight decay.
            filter_by_requires_grad: Leave out parameters that need no gradient.

        Raises:
            ConfigError: A number is negative or none.
        """
        for name, value in (("lr", lr), ("wd", wd)):
            if not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ConfigError(f"{name} must be a number of at least 0, got {shown(value)}.")
        groups = parameter_groups(self.retro, wd, only_trainable=filter_by_requires_grad)
        return torch.optim.AdamW(groups, lr=lr)

    def forward(
        self, seq: Tensor, retrieved: Tensor | None = None, return_loss: bool = False
    ) -> Tensor:
        """Return what the model returns: logits, or the loss."""
        result: Tensor = self.retro(seq, retrieved, return_loss=return_loss)
        return result

    @checks_arguments
    def generate(
        self,
        start: Tensor | None = None,
        retrieved: Tensor | None = None,
        filter_fn: Filter = top_p,
        filter_thres: float = 0.9,
        temperature: float = 1.0,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Write sequences; each complete chunk fetches the neighbors that the next one reads.

        Dropout is off meanwhile. The prompt retrieves too: it is padded on the left so that
        it ends with a whole chunk.

        Args:
            start: Token ids of prompts, (batch, tokens). None starts one sequence with [CLS].
            retrieved: Retrieved values of the prompt's complete chunks, (batch, chunks,
                neighbors, tokens), instead of searching for them.
            filter_fn: ``top_p``, ``top_k`` or a function like them.
            filter_thres: For ``top_p`` the probability that is kept, for ``top_k`` how many
                tokens.
            temperature: Divides the logits; 0 always takes the likeliest token.
            generator: Source of randomness.
            seed: Or the seed of a new one.

        Returns:
            Token ids with the prompt, (batch, at most max_seq_len), int64. A sequence that
            has drawn its end token goes on as padding.

        Raises:
            ConfigError: A setting is unknown or outside its range.
            InputError: The prompt is empty, too long, or holds unknown ids.
            ShapeError: ``start`` or ``retrieved`` has another shape.
        """
        if generator is not None and seed is not None:
            raise ConfigError("generate() takes a generator or a seed, got both. Leave one out.")
        if seed is not None:
            generator = torch.Generator().manual_seed(count("seed", seed, 0, 2**53))
        sampler = Sampler(
            filter_fn=filter_fn,
            filter_thres=filter_thres,
            temperature=temperature,
            generator=generator,
        )
        encoder = self.search.made.encoder
        cls_id = encoder.special_ids[0]
        prompt_BT = check_prompt(torch.tensor([[cls_id]]) if start is None else start, self.retro)
        if retrieved is not None:
            retrieved = check_retrieved(retrieved, prompt_BT, self.retro)
        with evaluating(self.retro):
            return generate_batch(
                self.retro,
                prompt_BT,
                self.search.retrieved,
                sampler,
                eos_id=self.search.eos_id,
                vocab_size=encoder.vocab_size,
                retrieved=retrieved,
                pads_left=start is not None,
            )


def _check_model(retro: object, chunk_size: int) -> None:
    if not isinstance(retro, RETRO):
        raise ConfigError(
            f"retro must be a RETRO model, got {shown(retro)}. Make one with RETRO()."
        )
    if chunk_size != retro.chunk_size:
        raise ConfigError(
            f"chunk_size must be that of the model, {retro.chunk_size}, got {shown(chunk_size)}. "
            f"Give both the same."
        )


def _check_tokens(retro: RETRO, encoder: EncoderName) -> None:
    opened = open_encoder(encoder)
    pad_id = opened.special_ids[2]
    vocab_size = opened.vocab_size
    if vocab_size > retro.config.num_tokens:
        raise ConfigError(
            f"num_tokens of the model must be at least {vocab_size}, the vocabulary of the encoder "
            f"{opened.name!r}, got {retro.config.num_tokens}. Make the model with "
            f"num_tokens={vocab_size}."
        )
    if pad_id != retro.pad_id:
        raise ConfigError(
            f"pad_id of the model must be {pad_id}, that of the encoder {opened.name!r}, "
            f"got {retro.pad_id}. Make the model with pad_id={pad_id}."
        )
