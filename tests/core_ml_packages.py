"""Three ordinary models, and the packages that plain coremltools makes of them: a convolution net, a small encoder,
a decoder with a cache."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class ConvolutionNet(nn.Module):
    """An image [1, 3, 32, 32] -> logits [1, 10]: strides, padding, groups, dilation, pooling, upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=16)
        self.pointwise = nn.Conv2d(16, 32, 1, bias=False)
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.head = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = nn.functional.relu(self.norm(self.stem(image)))
        x = x + nn.functional.gelu(self.depthwise(x))
        x = nn.functional.max_pool2d(nn.functional.hardswish(self.pointwise(x)), 2)
        x = nn.functional.avg_pool2d(self.up(x), 3, stride=1, padding=1)
        x = nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = nn.functional.leaky_relu(nn.functional.pad(x, (1, 1, 1, 1), mode="reflect"), 0.1)
        return self.head(x.mean((2, 3))).softmax(-1)


class Encoder(nn.Module):
    """Token ids [1, n] -> one vector [1, 32]; n up to 24, as a range. Attention written out: matmul and softmax."""

    heads, width = 4, 8

    def __init__(self) -> None:
        super().__init__()
        hidden = self.heads * self.width
        self.embedding = nn.Embedding(100, hidden)
        self.position = nn.Parameter(torch.randn(24, hidden))
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(4))
        self.projections = nn.ModuleList(nn.Linear(hidden, 3 * hidden) for _ in range(2))
        self.feed_forward = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(2))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)
        x = x + self.position[: x.shape[1]]
        for index in range(2):
            normed = self.norms[2 * index](x)
            parts = self.projections[index](normed).unflatten(-1, (3, self.heads, self.width))
            query, key, value = parts.permute(2, 0, 3, 1, 4)
            scores = torch.matmul(query, key.transpose(-1, -2)) / self.width**0.5
            x = x + torch.matmul(scores.softmax(-1), value).transpose(1, 2).flatten(2)
            x = x + nn.functional.gelu(self.feed_forward[index](self.norms[2 * index + 1](x)))
        return nn.functional.normalize(torch.tanh(x).mean(1), dim=-1)


class Decoder(nn.Module):
    """Token ids [1, q] and a mask [1, 1, q, end] -> logits [1, q, 50]; keys and values stay in two buffers."""

    context, heads, width = 16, 2, 8

    def __init__(self) -> None:
        super().__init__()
        hidden = self.heads * self.width
        self.embedding = nn.Embedding(50, hidden)
        self.projections = nn.ModuleList(nn.Linear(hidden, 3 * hidden) for _ in range(2))
        self.outputs = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(2))
        shape = (2, self.heads, self.context, self.width)
        self.register_buffer("keys", torch.zeros(shape))
        self.register_buffer("values", torch.zeros(shape))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        count, end = ids.shape[1], mask.shape[-1]
        past = end - count
        x = self.embedding(ids)
        for index, (projection, output) in enumerate(zip(self.projections, self.outputs, strict=True)):
            parts = projection(x).view(1, count, 3, self.heads, self.width).permute(2, 0, 3, 1, 4)
            self.keys[index : index + 1, :, past:end, :] = parts[1]
            self.values[index : index + 1, :, past:end, :] = parts[2]
            keys, values = self.keys[index : index + 1, :, :end, :], self.values[index : index + 1, :, :end, :]
            mixed = nn.functional.scaled_dot_product_attention(parts[0], keys, values, attn_mask=mask)
            x = x + nn.functional.silu(output(mixed.transpose(1, 2).reshape(1, count, -1)))
        return x @ self.embedding.weight.T


def coremltools() -> Any:
    """The package, without its remarks about versions that it was not tested with."""
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import coremltools as ct
    return ct


def convert(model: nn.Module, example: tuple[Tensor, ...], path: Path, precision: str, **options: Any) -> Path:
    """Traces, converts and saves. precision: float16 | float32, what it computes in. Returns `path`."""
    ct = coremltools()
    compute = {"float16": ct.precision.FLOAT16, "float32": ct.precision.FLOAT32}[precision]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model, example, check_trace=False)
        made = ct.convert(
            traced,
            minimum_deployment_target=ct.target.iOS18,
            compute_precision=compute,
            skip_model_load=True,
            **options,
        )
    made.save(str(path))
    return path


def convolution_net(path: Path, precision: str) -> tuple[ConvolutionNet, Path]:
    torch.manual_seed(1)
    model, image = ConvolutionNet().eval(), torch.zeros(1, 3, 32, 32)
    inputs = [coremltools().TensorType("image", shape=image.shape, dtype=np.dtype(precision).type)]
    return model, convert(model, (image,), path, precision, inputs=inputs)


def encoder(path: Path, precision: str) -> tuple[Encoder, Path]:
    ct = coremltools()
    torch.manual_seed(2)
    model = Encoder().eval()
    inputs = [ct.TensorType("ids", shape=(1, ct.RangeDim(1, 24, default=7)), dtype=np.int32)]
    return model, convert(model, (torch.zeros(1, 7, dtype=torch.int32),), path, precision, inputs=inputs)


def decoder(path: Path, precision: str) -> tuple[Decoder, Path]:
    ct = coremltools()
    torch.manual_seed(3)
    model = Decoder().eval()
    count, end = ct.RangeDim(1, model.context, default=1), ct.RangeDim(1, model.context, default=1)
    inputs = [
        ct.TensorType("ids", shape=(1, count), dtype=np.int32),
        ct.TensorType("mask", shape=(1, 1, count, end), dtype=np.dtype(precision).type),
    ]
    states = [
        ct.StateType(ct.TensorType(shape=tuple(getattr(model, name).shape), dtype=np.float16), name=name)
        for name in ("keys", "values")
    ]
    example = (torch.zeros(1, 3, dtype=torch.int32), torch.zeros(1, 1, 3, 5))
    package = convert(model, example, path, precision, inputs=inputs, states=states)
    model.keys.zero_()  # tracing has run it
    model.values.zero_()
    return model, package
