"""Initial weights of the RETRO network."""

from torch import nn

from retro.config.model import ModelConfig
from retro.model.attention import CrossAttention, SelfAttention
from retro.model.layers import FeedForward, decoder_beta, decoder_sublayers, encoder_beta
from retro.model.retro.decoder import Decoder, DecoderLayer


def initialize(
    network: nn.Module,
    config: ModelConfig,
    *,
    decoder: Decoder,
    token_embedding: nn.Embedding,
    encoder_embedding: nn.Embedding | None,
    to_logits: nn.Linear,
) -> None:
    """Set the initial weights.

    Pre-norm: normal with variance 1 / inputs; the matrices by which the decoder's
    self-attention and feed-forward layers write to the stream are divided by the square root
    of the number of sublayers. Neighbor encoder and chunked cross-attention are not damped:
    the way from a neighbor to a prediction is long enough (bench/RESULTS.md has the effect).
    DeepNorm: Xavier, with the gain beta of arXiv:2203.00555 on feed-forward, value and output
    matrices.

    Args:
        network: The whole network.
        config: Its sizes.
        decoder: Its decoder.
        token_embedding: Of the decoder.
        encoder_embedding: Of the neighbor encoder, where it has one of its own.
        to_logits: Its output layer.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    if not config.tie_embeddings:
        # Small logits: the first predictions are nearly even, so the first loss is ln(vocabulary).
        to_logits.weight.data.mul_(0.2)
    nn.init.normal_(token_embedding.weight, std=config.dec_dim**-0.5)
    if encoder_embedding is not None:
        nn.init.normal_(encoder_embedding.weight)
    if config.use_deepnet:
        initialize_deepnorm(decoder.layers, decoder_beta(config))
        if decoder.encoder is not None:
            initialize_deepnorm(decoder.encoder, encoder_beta(config))
        return
    damping = decoder_sublayers(config) ** -0.5
    for layer in decoder.layers:
        assert isinstance(layer, DecoderLayer)
        layer.attention.out_proj.weight.data.mul_(damping)
        layer.feed_forward.down_proj.weight.data.mul_(damping)


def initialize_deepnorm(part: nn.Module, beta: float) -> None:
    """Set Xavier weights with gain ``beta`` on feed-forward, value and output matrices."""
    for module in part.modules():
        if isinstance(module, SelfAttention | CrossAttention):
            gains = {module.q_proj: 1.0, module.k_proj: 1.0}
            gains |= {module.v_proj: beta, module.out_proj: beta}
        elif isinstance(module, FeedForward):
            gains = {module.up_proj: beta, module.down_proj: beta}
        else:
            continue
        for linear, gain in gains.items():
            nn.init.xavier_normal_(linear.weight, gain=gain)
