"""Cases of the operations that move elements."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  its usual name

from mil_cases.case import IMAGE, NUMBERS, Case, X, Y, floats, ints, moved, scalar, t, whole

INDICES = np.argsort(floats(2, 3, 4), 1).astype(np.int32)
FLAT, DIGITS = ints(2, 0, -1), whole(5, 2, 3)
PLACES = ints(0, 2, 1, 1, 0, 3).reshape(3, 2)
BOUNDS = {"begin": ints(0, -3, 1), "end": ints(2, -1, 4)}


SCATTERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "max": torch.maximum,
    "min": torch.minimum,
    "update": lambda data, updates: updates,
}


def scattered(mode: str) -> Tensor:
    """The rows 2 and 0 of axis 1, updated with rows 0 and 1."""
    data, updates = t(X).clone(), t(Y)
    for row, update in ((2, 0), (0, 1)):
        data[:, row] = SCATTERS[mode](data[:, row], updates[:, update])
    return data


MOVEMENT = [
    moved("argsort", t(X).argsort(-1, descending=True).int()),
    moved("argsort", t(X).argsort(1).int(), axis=np.int32(1), ascending=np.bool_(True)),
    moved("band_part", t(X).tril(1).triu(-1), lower=np.int32(1), upper=np.int32(1)),
    moved("band_part", t(X).tril(0), lower=np.int32(-1), upper=np.int32(0)),
    Case("concat", {"values": [X, Y], "axis": np.int32(1)}, torch.cat([t(X), t(Y)], 1), given=()),
    Case(
        "concat",
        {"values": [X, Y], "axis": np.int32(-1), "interleave": np.bool_(True)},
        torch.stack([t(X), t(Y)], -1).reshape(2, 3, 8),
        given=(),
    ),
    Case("concat", {"values": [ints(3, 4), np.int32(5)], "axis": np.int32(0)}, torch.tensor([3, 4, 5]), given=()),
    moved("expand_dims", t(X)[:, None, :, :, None], axes=ints(1, -1)),
    Case("fill", {"shape": ints(2, 3), "value": scalar(1.5)}, torch.full((2, 3), 1.5), given=()),
    moved("flatten2d", t(X).reshape(2, 12)),
    moved("flatten2d", t(X).reshape(6, 4), axis=np.int32(2)),
    moved("gather", t(X)[:, FLAT.tolist()], indices=FLAT, axis=np.int32(1)),
    moved("gather", t(X)[:, :, PLACES.tolist()], indices=PLACES, axis=np.int32(-1)),
    moved("gather", t(X)[:, 2], indices=np.int32(2), axis=np.int32(1)),
    moved(
        "gather",
        torch.stack([t(X)[0, [2, 1]], t(X)[1, [0, 0]]]),
        indices=ints(2, 1, 0, 0).reshape(2, 2),
        axis=np.int32(1),
        batch_dims=np.int32(1),
    ),
    moved("gather_along_axis", t(X).gather(1, t(INDICES).long()), indices=INDICES, axis=np.int32(1)),
    moved("gather_nd", t(X)[[0, 1, 0], [2, 1, 1]], indices=np.stack([ints(0, 1, 0), ints(2, 1, 1)], -1)),
    moved("identity", t(X)),
    moved("non_zero", t(NUMBERS).nonzero().int(), NUMBERS),
    Case(
        "one_hot",
        {"indices": DIGITS, "one_hot_vector_size": np.int32(5)},
        F.one_hot(t(DIGITS).long(), 5).int(),
        given=("indices",),
    ),
    Case(
        "one_hot",
        {
            "indices": ints(1, 0),
            "one_hot_vector_size": np.int32(3),
            "axis": np.int32(0),
            "on_value": scalar(2),
            "off_value": scalar(-1),
        },
        torch.tensor([[-1, 2.0], [2, -1], [-1, -1]]),
        given=("indices",),
    ),
    moved("pad", F.pad(t(X), (1, 2, 0, 1), value=0.5), pad=ints(0, 1, 1, 2), constant_val=scalar(0.5)),
    moved("pad", F.pad(t(X), (2, 1), mode="reflect"), pad=ints(2, 1), mode="=reflect"),
    moved("pad", F.pad(t(X), (2, 1), mode="replicate"), pad=ints(0, 0, 0, 0, 2, 1), mode="=replicate"),
    moved("pixel_shuffle", F.pixel_shuffle(t(IMAGE), 2), IMAGE, upscale_factor=np.int32(2)),
    Case(
        "range_1d",
        {"start": np.int32(2), "end": np.int32(9), "step": np.int32(3)},
        torch.arange(2, 9, 3).int(),
        given=(),
    ),
    Case("range_1d", {"start": scalar(0), "end": scalar(1), "step": scalar(0.25)}, torch.arange(0, 1, 0.25), given=()),
    moved("reshape", t(X).reshape(2, 2, 6), shape=ints(0, 2, -1)),
    moved("reverse", t(X).flip(0, 2), axes=ints(0, -1)),
    moved("reverse", t(X).flip(0, 1, 2)),
    moved("shape", torch.tensor([2, 3, 4]).int()),
    moved("slice_by_index", t(X)[0:2, -3:-1, 1:4], **BOUNDS),
    moved(
        "slice_by_index",
        t(X)[:, 1:, ::2],
        begin=ints(0, 1, 0),
        end=ints(0, 0, 4),
        stride=ints(1, 1, 2),
        begin_mask=np.array([True, False, False]),
        end_mask=np.array([True, True, False]),
    ),
    moved(
        "slice_by_index",
        t(X)[1, :, 2],
        begin=ints(-1, 0, 2),
        end=ints(0, 3, 3),
        squeeze_mask=np.array([True, False, True]),
    ),
    moved("slice_by_index", t(X).flip(2)[:, :, :2], begin=ints(0, 0, -1), end=ints(2, 3, 1), stride=ints(1, 1, -1)),
    moved("slice_by_index", t(X).flip(2), begin=ints(0, 0, -1), end=ints(2, 3, -5), stride=ints(1, 1, -1)),
    moved("slice_by_size", t(X)[:, 1:3, 2:], begin=ints(0, 1, 2), size=ints(2, 2, -1)),
    Case(
        "slice_update",
        {"x": X, "update": Y[:, :2, :3], **BOUNDS},
        t(X).slice_scatter(t(X)[:, -3:-1].slice_scatter(t(Y)[:, :2, :3], 2, 1, 4), 1, 0, 2),
        given=("x", "update"),
    ),
    moved("split", t(X).split([1, 2], 1), split_sizes=ints(1, 2), axis=np.int32(1)),
    moved("split", t(X).chunk(2, -1), num_splits=np.int32(2), axis=np.int32(-1)),
    moved("squeeze", t(X)[:1].squeeze(0), X[:1], axes=ints(0)),
    moved("squeeze", t(X)[:1, :1].squeeze(), X[:1, :1]),
    Case("stack", {"values": [X, Y], "axis": np.int32(1)}, torch.stack([t(X), t(Y)], 1), given=()),
    moved("tile", t(X).repeat(1, 2, 3), reps=ints(1, 2, 3)),
    moved("topk", [v.int() if v.dtype == torch.int64 else v for v in t(X).topk(2)], k=np.int32(2)),
    moved(
        "topk",
        [v.int() if v.dtype == torch.int64 else v for v in t(X).topk(2, 1, largest=False)],
        k=np.int32(2),
        axis=np.int32(1),
        ascending=np.bool_(True),
    ),
    moved("transpose", t(X).permute(2, 0, 1), perm=ints(2, 0, -2)),
    *(
        Case(
            "scatter",
            {"data": X, "indices": ints(2, 0), "updates": Y[:, :2], "axis": np.int32(1), "mode": f"={mode}"},
            scattered(mode),
            given=("data", "updates"),
        )
        for mode in SCATTERS
    ),
    Case(
        "scatter_along_axis",
        {"data": X, "indices": INDICES[:, :2], "updates": Y[:, :2], "axis": np.int32(1), "mode": "=add"},
        t(X).scatter_add(1, t(INDICES[:, :2]).long(), t(Y[:, :2])),
        given=("data", "updates"),
    ),
    Case(
        "scatter_along_axis",
        {"data": X, "indices": INDICES, "updates": Y, "axis": np.int32(1), "mode": "=update"},
        t(X).scatter(1, t(INDICES).long(), t(Y)),
        given=("data", "updates"),
    ),
    Case(
        "scatter_nd",
        {"data": X, "indices": ints(0, 2, 1, 0).reshape(2, 2), "updates": Y[0, :2], "mode": "=update"},
        t(X).index_put((torch.tensor([0, 1]), torch.tensor([2, 0])), t(Y[0, :2])),
        given=("data", "updates"),
    ),
    Case(
        "scatter_nd",
        {"data": X, "indices": ints(1, 1).reshape(2, 1), "updates": Y, "mode": "=add"},
        t(X).index_put((torch.tensor([1, 1]),), t(Y), accumulate=True),
        given=("data", "updates"),
    ),
]
