"""Tokens and vectors of a frozen encoder, by the names of RETRO-pytorch.

Shape suffixes: N any number of rows, T tokens, Z key width.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from retro.errors import InputError, ShapeError
from retro.retro_pytorch.arguments import checks_arguments
from retro.retro_pytorch.encoder import EncoderName, open_encoder


@checks_arguments
def tokenize(
    texts: str | Sequence[str], add_special_tokens: bool = True, *, encoder: EncoderName = None
) -> Tensor:
    """Return the token ids of texts, as the tokenizer of the encoder has them.

    Args:
        texts: One text or several, of any length.
        add_special_tokens: Begin each with [CLS] and end it with [SEP].
        encoder: Hub name or folder; see ``open_encoder``.

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
    found = opened.tokenize(rows, add_special_tokens=add_special_tokens)
    if not found:
        return torch.empty(0, 0, dtype=torch.int64)
    ids = [torch.tensor(row, dtype=torch.int64) for row in found]
    return pad_sequence(ids, batch_first=True, padding_value=opened.pad_id)


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
        encoder: Hub name or folder; see ``open_encoder``.

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
