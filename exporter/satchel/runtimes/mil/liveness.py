"""How long values live: when one can be dropped, and when a state's buffer may be changed where it lies.

A decoder updates a cache of megabytes by a few rows in every layer. On a device that happens in place; here too, but
only where the program can't tell the difference: nobody reads an old value, or a view of it, afterwards.
"""

from collections.abc import Collection, Iterator, Sequence

from satchel.formats.mlpackage_program import Operation

# Operations whose result never shares memory with what they are given. Of all others it is supposed.
_FRESH = {
    "add", "concat", "conv", "gather", "linear", "matmul", "mul", "real_div", "scaled_dot_product_attention", "select",
    "softmax", "sub",
}  # fmt: skip


def names(operation: Operation) -> Iterator[str]:
    """Every value that an operation reads."""
    for values in operation.inputs.values():
        yield from (value for value in values if isinstance(value, str))


def last_uses(operations: Sequence[Operation]) -> dict[str, int]:
    """Value -> number of the last operation that reads it."""
    return {name: number for number, operation in enumerate(operations) for name in names(operation)}


def dropped_after(operations: Sequence[Operation], keep: Collection[str]) -> list[tuple[str, ...]]:
    """For each operation, the values that nobody needs after it; `keep` are needed at the end."""
    dropped: list[list[str]] = [[] for _ in operations]
    for name, number in last_uses(operations).items():
        if name not in keep:
            dropped[number].append(name)
    return [tuple(found) for found in dropped]


def in_place_updates(operations: Sequence[Operation], outputs: Collection[str]) -> set[int]:
    """Numbers of the slice_update operations that may change a state's own buffer.

    Such a one updates what was read from a state, its result is the next thing written to that state, and every other
    value that may share the buffer was last read before. outputs: values that are read after the last operation.
    """
    last = last_uses(operations)
    end = len(operations)
    sharing: dict[str, set[str]] = {}  # state -> values that may share its buffer
    found: set[int] = set()
    for number, operation in enumerate(operations):
        made = {output.name for output in operation.outputs}
        if operation.type == "read_state":
            sharing.setdefault(_first(operation, "input"), set()).update(made)
            continue
        read = set(names(operation))
        for state, shared in sharing.items():
            if not read & shared or operation.type in _FRESH:
                continue
            if operation.type != "slice_update":
                shared |= made
            elif _first(operation, "x") in shared and _written_next(operations, number, state):
                live = {name for name in shared if (end if name in outputs else last.get(name, -1)) > number}
                if not live:
                    found.add(number)
                    shared |= made
    return found


def _written_next(operations: Sequence[Operation], number: int, state: str) -> bool:
    """True if the first to touch the state after an update writes the update's result to it."""
    result = operations[number].outputs[0].name
    for operation in operations[number + 1 :]:
        if operation.type in ("read_state", "write_state") and _first(operation, "input") == state:
            return operation.type == "write_state" and _first(operation, "data") == result
    return False


def _first(operation: Operation, part: str) -> str:
    value = operation.inputs[part][0]
    return value if isinstance(value, str) else ""
