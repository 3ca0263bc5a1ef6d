"""Cases of the operations that move elements."""

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812  its usual name

from mil_cases.case import Case, X, Y, ints, moved, scalar, t

FLAT = ints(2, 0, -1)
PLACES = ints(0, 2, 1, 1, 0, 3).reshape(3, 2)
BOUNDS = {"begin": ints(0, -3, 1), "end": ints(2, -1, 4)}

MOVEMENT = [
    Case("concat", {"values": [X, Y], "axis": np.int32(1)}, torch.cat([t(X), t(Y)], 1), given=()),
    Case(
        "concat",
        {"values": [X, Y], "axis": np.int32(-1), "interleave": np.bool_(True)},
        torch.stack([t(X), t(Y)], -1).reshape(2, 3, 8),
        given=(),
    ),
    Case("concat", {"values": [ints(3, 4), np.int32(5)], "axis": np.int32(0)}, torch.tensor([3, 4, 5]), given=()),
    moved("expand_dims", t(X)[:, None, :, :, None], axes=ints(1, -1)),
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
    moved("pad", F.pad(t(X), (1, 2, 0, 1), value=0.5), pad=ints(0, 1, 1, 2), constant_val=scalar(0.5)),
    moved("pad", F.pad(t(X), (2, 1), mode="reflect"), pad=ints(2, 1), mode="=reflect"),
    moved("pad", F.pad(t(X), (2, 1), mode="replicate"), pad=ints(0, 0, 0, 0, 2, 1), mode="=replicate"),
    Case(
        "range_1d",
        {"start": np.int32(2), "end": np.int32(9), "step": np.int32(3)},
        torch.arange(2, 9, 3).int(),
        given=(),
    ),
    Case("range_1d", {"start": scalar(0), "end": scalar(1), "step": scalar(0.25)}, torch.arange(0, 1, 0.25), given=()),
    moved("reshape", t(X).reshape(2, 2, 6), shape=ints(0, 2, -1)),
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
    moved("tile", t(X).repeat(1, 2, 3), reps=ints(1, 2, 3)),
    moved("transpose", t(X).permute(2, 0, 1), perm=ints(2, 0, -2)),
]
