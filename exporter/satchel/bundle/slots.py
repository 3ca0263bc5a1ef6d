"""slots.json: the plan that a bundle's program was quantized to, and where each tensor lies in the artifact."""

import json
from pathlib import Path

from satchel.files import canonical_json
from satchel.quantize.plan import QuantPlan
from satchel.skeleton.table import Slot


def write_slots(path: Path, artifact: str, plan: QuantPlan, slots: tuple[Slot, ...]) -> None:
    """artifact: the file that the offsets are in, by its path in the bundle."""
    entries = [slot.to_json() for slot in slots]
    path.write_bytes(canonical_json({"artifact": artifact, "plan": plan.to_json(), "slots": entries}))


def read_slots(path: Path) -> tuple[QuantPlan, tuple[Slot, ...]]:
    data = json.loads(path.read_text(encoding="utf-8"))
    return QuantPlan.from_json(data["plan"]), tuple(Slot.from_json(entry) for entry in data["slots"])
