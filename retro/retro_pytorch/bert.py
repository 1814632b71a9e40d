"""Tokens and vectors of a frozen encoder, by the names of RETRO-pytorch.

The encoder is ``bert-base-cased`` unless the argument ``encoder`` or the environment
variable ``RETRO_ENCODER`` names another, a Hub name or a folder. The variable is read at
every call, because a script may set it.

Shape suffixes: N any number of rows, T tokens, M tokens per chunk, Z key width.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retro.artifacts import fingerprint
from retro.config import BUNDLED_ENCODER
from retro.device import default_device
from retro.errors import ArtifactMissingError, InputError, ShapeError, shown
from retro.places import check_place
from retro.retrieval.embedder import TextEncoder
from retro.retro_pytorch.arguments import checks_arguments

DEFAULT_ENCODER = "bert-base-cased"
ENCODER_VARIABLE = "RETRO_ENCODER"

EncoderName = str | os.PathLike[str] | None

_kept: dict[tuple[str, str], TextEncoder] = {}
_loading = Lock()


def open_encoder(encoder: EncoderName = None, device: torch.device | None = None) -> TextEncoder:
    """Return the chosen encoder; it is loaded once per process and device.

    Args:
        encoder: Hub name or folder; None is what ``RETRO_ENCODER`` says, or
            ``bert-base-cased``.
        device: Where it computes; None is CUDA where there is one.

    Raises:
        ConfigError: No encoder could be called so.
        ArtifactMissingError: It is neither here nor can it be downloaded.
        ArtifactMismatchError: Its files cannot be used.
    """
    name = os.fspath(encoder or os.environ.get(ENCODER_VARIABLE) or DEFAULT_ENCODER)
    device = device or default_device()
    check_place("encoder" if encoder else ENCODER_VARIABLE, name)
    kept_as = (str(Path(name).resolve()) if Path(name).is_dir() else name, str(device))
    with _loading:
        if kept_as not in _kept:
            try:
                _kept[kept_as] = TextEncoder.open(name, device)
            except ArtifactMissingError as error:
                cause = error.__cause__ or error
                raise ArtifactMissingError(
                    f"The encoder {shown(name)} is not in the cache and cannot be downloaded "
                    f"({type(cause).__name__}). Connect to the network once, or choose another: "
                    f"{ENCODER_VARIABLE}={BUNDLED_ENCODER} is the bundled encoder and needs none, "
                    f"{ENCODER_VARIABLE}=FOLDER is one of your own."
                ) from error
        return _kept[kept_as]


@checks_arguments
def tokenize(
    texts: str | Sequence[str], add_special_tokens: bool = True, *, encoder: EncoderName = None
) -> Tensor:
    """Return the token ids of texts, as the tokenizer of the encoder has them.

    Args:
        texts: One text or several, of any length.
        add_special_tokens: Begin each with [CLS] and end it with [SEP].
        encoder: Hub name or folder; see the module.

    Returns:
        Token ids, (texts, longest), int64; the pad id fills shorter rows.

    Raises:
        InputError: Something is not a text.
    """
    rows: list[Any] = list(texts) if isinstance(texts, list | tuple) else [texts]
    for row in rows:
        if not isinstance(row, str):
            raise InputError(f"tokenize() reads texts, got {type(row).__name__}. Decode it first.")
    opened = open_encoder(encoder)
    found = opened.tokens.tokenize(rows, add_special_tokens=add_special_tokens)
    longest = max((len(ids) for ids in found), default=0)
    ids_NT = torch.full((len(found), longest), opened.tokens.pad_id, dtype=torch.int64)
    for number, ids in enumerate(found):
        ids_NT[number, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
    return ids_NT


@checks_arguments
def bert_embed(
    token_ids: Tensor,
    return_cls_repr: bool = False,
    eps: float = 1e-8,
    pad_id: float = 0.0,
    *,
    encoder: EncoderName = None,
) -> Tensor:
    """Return one vector per row of token ids.

    It is the mean of the last hidden states over the tokens that are not padding, without
    the first token ([CLS]), or the state of the first token alone. Where the processor
    computes in bfloat16 natively, the states are computed so.

    Args:
        token_ids: Token ids with [CLS] in front, (n, tokens), as ``tokenize`` gives them.
        return_cls_repr: Return the state of the first token.
        eps: Added to the number of tokens before dividing.
        pad_id: Token id that stands for nothing.
        encoder: Hub name or folder; see the module.

    Returns:
        Vectors, (n, width), float32, on the device of ``token_ids``; 768 wide for BERT base.

    Raises:
        ShapeError: It is not (n, tokens) of integers the encoder knows, or too long.
    """
    if not isinstance(token_ids, Tensor):
        raise ShapeError(
            f"token_ids must be a tensor, got {type(token_ids).__name__}. Make it with tokenize()."
        )
    if token_ids.ndim != 2 or token_ids.is_floating_point() or token_ids.dtype == torch.bool:
        raise ShapeError(
            f"token_ids must be integers of shape (n, tokens), got {token_ids.dtype} of shape "
            f"{tuple(token_ids.shape)}. Make them with tokenize()."
        )
    ids_NT = token_ids.detach().cpu().long().numpy()
    vectors_NZ = open_encoder(encoder).encode_tokens(
        ids_NT, ids_NT != pad_id, first_token=return_cls_repr, eps=eps
    )
    return torch.from_numpy(vectors_NZ).to(token_ids.device)


class TokenEmbedder:
    """Embeds chunks of the encoder's own tokens; database chunks and queries alike.

    A chunk is read as [CLS], its tokens without special ones and padding, [SEP].
    """

    def __init__(
        self, encoder: TextEncoder, *, use_cls_repr: bool = False, most_rows: int | None = None
    ) -> None:
        self.encoder = encoder
        self.width = encoder.width
        self.fingerprint = fingerprint(
            {"encoder": encoder.fingerprint, "rows": "[CLS] chunk [SEP]", "cls": use_cls_repr}
        )
        self._use_cls_repr = use_cls_repr
        self._most_rows = most_rows

    def embed(self, chunks_NM: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return one key per chunk, (chunks, width).

        Raises:
            ShapeError: A chunk is longer than the encoder reads, or holds an unknown id.
            ArtifactMismatchError: A key is zero or not finite.
        """
        cls_id, sep_id, pad_id = self.encoder.tokens.special_ids
        num_rows, size = chunks_NM.shape
        kept_NM = ~np.isin(chunks_NM, (cls_id, sep_id, pad_id))
        # A stable sort moves the kept tokens to the left in their order.
        order_NM = np.argsort(~kept_NM, axis=1, kind="stable")
        ids_NT = np.full((num_rows, size + 2), pad_id, dtype=np.int64)
        ids_NT[:, 0] = cls_id
        ids_NT[:, 1:-1] = np.take_along_axis(chunks_NM, order_NM, axis=1)
        lengths_N = kept_NM.sum(axis=1)
        exists_NT = np.arange(size + 2) < lengths_N[:, None] + 2
        ids_NT[np.arange(num_rows), lengths_N + 1] = sep_id
        ids_NT[~exists_NT] = pad_id
        keys_NZ = self.encoder.encode_tokens(
            ids_NT, exists_NT, first_token=self._use_cls_repr, most_rows=self._most_rows
        )
        self.encoder.check(keys_NZ)
        return keys_NZ
