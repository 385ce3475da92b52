"""An attention decoder over the hypotheses of many utterances, one token a step.

The hypotheses of an utterance are a tree: most share what they began with. Keys and values of self-attention are held
once for each node of it, and a mask says which nodes a hypothesis descends from; so choosing hypotheses moves a mask,
and no keys. What no hypothesis descends from is pruned now and then. Keys and values of the encoder output are made
once an utterance.

It reads the weights of ESPnet's `TransformerDecoder` (norms before each branch), also where matrices are packed.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class AttentionDecoder:
    """The hypotheses of a batch of utterances, at first the empty one of each. `decoder` is an ESPnet
    `TransformerDecoder`, `frames` (utterances, frames, width) the encoder output, `valid` (utterances, frames) says
    which frames are real."""

    def __init__(self, decoder: Any, frames: Tensor, valid: Tensor):
        self.embedding, self.positions = decoder.embed
        self.last_norm = decoder.after_norm
        self.output = Linear.of(decoder.output_layer)
        self.layers = [Layer(layer, frames) for layer in decoder.decoders]
        self.real = valid[:, None, None]
        self.descent = torch.zeros(len(frames), 1, 0, dtype=torch.bool, device=frames.device)
        """(utterances, hypotheses, nodes): which nodes a hypothesis descends from."""
        self.tokens = 0

    def log_probs(self, tokens: Tensor) -> Tensor:
        """Of the next token of each hypothesis (utterances, hypotheses, vocabulary), whose last ones are `tokens`
        (utterances, hypotheses)."""
        utterances, hypotheses = tokens.shape
        own = torch.eye(hypotheses, dtype=torch.bool, device=tokens.device)
        self.descent = torch.cat((self.descent, own.expand(utterances, -1, -1)), 2)
        mask = torch.zeros_like(self.descent, dtype=self.output.weight.dtype).masked_fill(~self.descent, -torch.inf)
        x = self.embedding(tokens)
        self.tokens += 1
        self.positions.extend_pe(x.new_empty(()).expand(1, self.tokens))
        x = x * self.positions.xscale + self.positions.pe[:, self.tokens - 1]
        for layer in self.layers:
            x = layer(x, mask[:, None], self.real)
        return self.output(self.last_norm(x)).log_softmax(-1)

    def extend(self, parents: Tensor, alive: Tensor) -> None:
        """Go on with hypotheses `parents` (utterances, hypotheses); those that are not `alive` hold no nodes."""
        self.descent = self.descent.gather(1, parents[..., None].expand(-1, -1, self.descent.size(2)))
        self.descent = self.descent & alive[..., None]

    def nodes(self) -> Tensor:
        """How many nodes each utterance needs, (utterances,)."""
        return self.descent.any(1).sum(1)

    def prune(self, nodes: int) -> None:
        """Forget the nodes that no hypothesis needs, so that as many stay as the largest tree has."""
        order = self.descent.any(1).byte().sort(dim=1, descending=True, stable=True).indices[:, :nodes]
        self.descent = self.descent.gather(2, order[:, None].expand(-1, self.descent.size(1), -1))
        for layer in self.layers:
            layer.select(order)

    def keep(self, rows: Tensor, frames: int) -> None:
        """Go on with the utterances `rows`, of which the longest has so many frames."""
        self.descent, self.real = self.descent[rows], self.real[rows, ..., :frames]
        for layer in self.layers:
            layer.keep(rows, frames)


@dataclasses.dataclass(frozen=True)
class Linear:
    """A linear map whose weights are read once: packed ones would be unpacked at each step."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, *modules: nn.Module) -> "Linear":
        """One map for all: their outputs side by side."""
        if len(modules) == 1:
            return cls(modules[0].weight, modules[0].bias)
        return cls(torch.cat([part.weight for part in modules]), torch.cat([part.bias for part in modules]))

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class Layer:
    """One layer, with the keys and values that it has made so far, (utterances, heads, nodes or frames, width)."""

    def __init__(self, layer: Any, frames: Tensor):
        own, cross = layer.self_attn, layer.src_attn
        self.heads = own.h
        self.norms = (layer.norm1, layer.norm2, layer.norm3)
        self.own = Linear.of(own.linear_q, own.linear_k, own.linear_v)
        self.own_out, self.cross, self.cross_out = map(Linear.of, (own.linear_out, cross.linear_q, cross.linear_out))
        self.inner, self.outer = Linear.of(layer.feed_forward.w_1), Linear.of(layer.feed_forward.w_2)
        self.activation = layer.feed_forward.activation
        self.memory = self._heads(Linear.of(cross.linear_k, cross.linear_v)(frames), 2)
        self.held = [kept[:, :, :0] for kept in self.memory]

    def __call__(self, x: Tensor, mask: Tensor, real: Tensor) -> Tensor:
        """`x` (utterances, hypotheses, width); `mask` (utterances, 1, hypotheses, nodes) is 0 where a hypothesis sees
        a node and -inf elsewhere; `real` (utterances, 1, 1, frames)."""
        query, *new = self._heads(self.own(self.norms[0](x)), 3)
        self.held = [torch.cat(pair, 2) for pair in zip(self.held, new, strict=True)]
        x = x + self.own_out(self._attend(query, *self.held, mask))
        (query,) = self._heads(self.cross(self.norms[1](x)), 1)
        x = x + self.cross_out(self._attend(query, *self.memory, real))
        return x + self.outer(self.activation(self.inner(self.norms[2](x))))

    def select(self, order: Tensor) -> None:
        """Keep the nodes `order` (utterances, nodes)."""
        places = order[:, None, :, None].expand(-1, self.heads, -1, self.held[0].size(3))
        self.held = [kept.gather(2, places) for kept in self.held]

    def keep(self, rows: Tensor, frames: int) -> None:
        self.held = [kept[rows] for kept in self.held]
        self.memory = [kept[rows, :, :frames] for kept in self.memory]

    def _heads(self, x: Tensor, parts: int) -> list[Tensor]:
        """(utterances, places, parts * width) as `parts` tensors (utterances, heads, places, width a head)."""
        return list(x.unflatten(2, (parts, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind())

    @staticmethod
    def _attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        found = F.scaled_dot_product_attention(query, keys, values, mask)
        return found.transpose(1, 2).flatten(2)
