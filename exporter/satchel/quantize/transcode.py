"""A 4-bit source's own codes, moved to our grid without rounding them again.

The runtimes take symmetric codes and positive, normal bfloat16 scales. So, per block (design.md, section 4):
- `w = d (q - 8) + o` keeps its codes, q - 8, and gets the scale d rounded to bfloat16;
- a negative d is turned round: `d (q - 8) = |d| (8 - q) = |d| ((7 - q) + 1)`: codes 7 - q, scale |d|, offset |d|;
- a d that has no usable bfloat16 becomes codes 0, scale 1;
- the offset is what remains on average, so it also takes up the mean of the scale's rounding error.
"""

import numpy as np

from satchel.quantize.grid import GridCodes, is_usable, round_to_bfloat16
from satchel.quantize.plan import TensorPlan
from satchel.source.checkpoint import SourceCodes


def transcode(source: SourceCodes, plan: TensorPlan) -> GridCodes | None:
    """The source's codes under an int4 plan, or None if the plan's grid can't hold them.

    A plan without offset holds blocks around zero only, with a scale that is not negative: Q4_1 and Q4_K never fit it.
    """
    if plan.scheme != "int4" or plan.group != source.group:
        return None
    if not plan.offset and (np.any(source.offset) or np.any(source.scale < 0)):
        return None
    outputs, inputs = source.codes.shape
    centred = source.codes.astype(np.int8).reshape(outputs, -1, source.group) - np.int8(8)
    turned = source.scale < 0
    centred = np.where(turned[..., None], np.int8(-1) - centred, centred)
    step = np.abs(source.scale)

    scale = round_to_bfloat16(step)
    usable = is_usable(scale)
    codes = np.where(usable[..., None], centred, np.int8(0))
    scale = np.where(usable, scale, np.float32(1))
    if not plan.offset:
        return GridCodes(codes.reshape(outputs, inputs), scale, None)

    # mean(w) - scale * mean(code), with w = step * centred + (offset, or offset + step where turned)
    zero = source.offset.astype(np.float64) + np.where(turned, step.astype(np.float64), 0.0)
    mean_centred = centred.mean(axis=-1, dtype=np.float64)
    mean_code = codes.mean(axis=-1, dtype=np.float64)
    offset = zero + step.astype(np.float64) * mean_centred - scale.astype(np.float64) * mean_code
    return GridCodes(codes.reshape(outputs, inputs), scale, offset.astype(np.float32))
