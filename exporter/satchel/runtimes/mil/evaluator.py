"""Evaluates an ML Program as its file has it, operation by operation. docs/coreml-evaluator.md: what that proves."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.errors import CorruptModelError, ProgramInputError, UnknownOperationError
from satchel.formats.mlpackage_program import Feature, Function, Operation, Package
from satchel.runtimes.mil.constant_values import CONSTANT_OPERATIONS, ConstantValues
from satchel.runtimes.mil.convolution import CONVOLUTION
from satchel.runtimes.mil.elementwise import ELEMENTWISE
from satchel.runtimes.mil.linear import LINEAR
from satchel.runtimes.mil.liveness import dropped_after, in_place_updates, names
from satchel.runtimes.mil.movement import MOVEMENT
from satchel.runtimes.mil.reductions import REDUCTIONS
from satchel.runtimes.mil.values import Array, Inputs, computed, declared, fits

OPERATIONS = {**ELEMENTWISE, **MOVEMENT, **REDUCTIONS, **LINEAR, **CONVOLUTION}
STATE_OPERATIONS = {"read_state", "write_state"}

# State name -> its buffer: float32, holding what a float16 can hold.
State = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class _Step:
    """One operation, ready to run. arguments: a name, a value, or a list of them. dropped: values that nobody needs
    afterwards. half: its floats are rounded to float16. in_place: it may change a state's own buffer."""

    operation: Operation
    arguments: tuple[tuple[str, Any], ...]
    dropped: tuple[str, ...]
    half: bool
    in_place: bool


class Evaluator:
    """One function of an .mlpackage. exact: no result is rounded; float32 throughout.

    inputs, outputs: its features by name. Raises UnknownOperationError at once if it has an operation that is not
    known here.
    """

    def __init__(self, path: Path, function: str | None = None, exact: bool = False) -> None:
        package = Package.open(path)
        program = package.program
        name = program.default_function if function is None else function
        if name not in program.functions:
            raise CorruptModelError(f"{path} has no function {name}; it has {', '.join(program.functions)}")
        self.function: Function = program.functions[name]
        self.exact = exact
        self._path = path
        block = self.function.block
        refuse_unknown(block.operations, path)
        self.inputs: Mapping[str, Feature] = {feature.name: feature for feature in self.function.input_features}
        self.outputs: Mapping[str, Feature] = {feature.name: feature for feature in self.function.output_features}
        self.states: Mapping[str, Feature] = {feature.name: feature for feature in self.function.state_features}
        self._constants = ConstantValues(package, block.operations, exact)
        operations = [operation for operation in block.operations if operation.type not in CONSTANT_OPERATIONS]
        self._steps = self._prepare(operations, block.outputs)
        self._reading: dict[tuple[str, ...], list[_Step]] = {}  # by what is read
        self._resuming: dict[tuple[frozenset[str], tuple[str, ...]], list[_Step]] = {}  # by what is given and read

    # --- running --------------------------------------------------------------------------------------------------

    def make_state(self) -> State:
        """Buffers of zeros, as a device's makeState() gives them."""
        return {name: np.zeros(feature.shape, np.float32) for name, feature in self.states.items()}

    def run(
        self, inputs: Mapping[str, NDArray[Any]], state: State | None = None, read: Sequence[str] = ()
    ) -> dict[str, NDArray[Any]]:
        """The outputs by name, in their declared types (float32 if exact), and the values named in `read`, in the types
        they are computed in. state: changed by the call, as the program says.

        Raises ProgramInputError for a wrong input, CorruptModelError if an operation can't be done or its result is
        not of its declared shape.
        """
        values: dict[str, Any] = self._admitted(inputs, state)
        steps = self._steps if not read else self._prepare_reading(read)
        self._evaluate(steps, values, {} if state is None else state, check=True)
        results: dict[str, NDArray[Any]] = {name: np.array(self._value(name, values)) for name in read}
        return results | {name: self._output(name, values) for name in self.function.block.outputs}

    def resume(self, given: Mapping[str, NDArray[Any]], read: Sequence[str]) -> dict[str, NDArray[Any]]:
        """The values named in `read`, computed from the intermediate values `given` and constants alone.

        Shapes may differ from the declared ones, so that what a program does for one position can be done for many.
        Raises CorruptModelError if something else would be needed.
        """
        key = (frozenset(given), tuple(read))
        if key not in self._resuming:
            self._resuming[key] = self._needed(key[0], read)
        values: dict[str, Any] = {name: computed(np.asarray(value)) for name, value in given.items()}
        self._evaluate(self._resuming[key], values, {}, check=False)
        return {name: self._value(name, values) for name in read}

    def _evaluate(self, steps: Sequence[_Step], values: dict[str, Any], state: State, check: bool) -> None:
        # Infinity and NaN are results like others: a device computes on with them too.
        with np.errstate(all="ignore"):
            for step in steps:
                operation = step.operation
                try:
                    if operation.type == "read_state":
                        results: tuple[Array, ...] = (state[_state_of(operation)],)
                    elif operation.type == "write_state":
                        results = self._write(step, values, state)
                    else:
                        results = self._compute(step, values)
                    for output, result in zip(operation.outputs, results, strict=True):
                        if check and not fits(result.shape, output.type):
                            raise ValueError(f"{output.name} has shape {result.shape}")
                        values[output.name] = result
                except (IndexError, KeyError, ValueError, TypeError) as error:
                    made = ", ".join(f"{output.name} {output.type}" for output in operation.outputs)
                    raise CorruptModelError(
                        f"{self._path}: {operation.type} can't give {made or operation.name}: {error}"
                    ) from error
                for name in step.dropped:
                    values.pop(name, None)

    def _compute(self, step: _Step, values: Mapping[str, Any]) -> tuple[Array, ...]:
        kind = step.operation.type
        arguments = {part: self._resolved(argument, values) for part, argument in step.arguments}
        found = OPERATIONS[kind](Inputs(arguments, step.half, step.in_place))
        results = found if isinstance(found, tuple) else (found,)
        if kind in MOVEMENT:
            return tuple(map(computed, map(np.asarray, results)))
        return tuple(
            declared(np.asarray(result), output.type.dtype, self.exact)
            for output, result in zip(step.operation.outputs, results, strict=True)
        )

    def _write(self, step: _Step, values: Mapping[str, Any], state: State) -> tuple[Array, ...]:
        """The state is replaced by a copy, unless the value is its own buffer, updated in place."""
        name, value = _state_of(step.operation), self._resolved(dict(step.arguments)["data"], values)
        if value is not state[name]:
            state[name] = np.array(value)
        return tuple(state[name] for _ in step.operation.outputs)

    def _resolved(self, argument: Any, values: Mapping[str, Any]) -> Any:
        if isinstance(argument, _Name):
            return self._value(argument, values)
        return [self._resolved(entry, values) for entry in argument] if isinstance(argument, list) else argument

    def _value(self, name: str, values: Mapping[str, Any]) -> Any:
        return values[name] if name in values else self._constants[name]

    def _output(self, name: str, values: Mapping[str, Any]) -> NDArray[Any]:
        """In its declared type; a copy, since it may share a state's buffer."""
        value: NDArray[Any] = np.asarray(self._value(name, values))
        feature = self.outputs.get(name)
        if feature is None or not feature.dtype or (self.exact and value.dtype.kind == "f"):
            return value.copy()
        with np.errstate(over="ignore"):
            return value.astype(feature.dtype)

    # --- what is admitted -----------------------------------------------------------------------------------------

    def _admitted(self, inputs: Mapping[str, NDArray[Any]], state: State | None) -> dict[str, Any]:
        """The inputs in the types they are computed in. Raises ProgramInputError, naming what is wrong."""
        for name in inputs:
            if name not in self.inputs:
                raise ProgramInputError(f"The program takes no input {name}. It takes {', '.join(self.inputs)}.")
        admitted: dict[str, Any] = {}
        for name, feature in self.inputs.items():
            if name not in inputs:
                raise ProgramInputError(f"The program's input {name} is missing")
            array = np.asarray(inputs[name])
            if not feature.admits(array.shape):
                raise ProgramInputError(f"Input {name} has shape {array.shape}; the program takes {_shapes(feature)}")
            if feature.dtype and array.dtype != feature.dtype:
                raise ProgramInputError(f"Input {name} is {array.dtype}; the program takes {feature.dtype}")
            admitted[name] = computed(array)
        for name, feature in self.states.items():
            if state is None or name not in state:
                raise ProgramInputError(f"The program keeps state {name}: give it a state from make_state()")
            if state[name].shape != feature.shape or state[name].dtype != np.float32:
                raise ProgramInputError(
                    f"State {name} is {state[name].dtype} {state[name].shape}; make_state() gives {feature.shape}"
                )
        return admitted

    # --- preparing ------------------------------------------------------------------------------------------------

    def _prepare(
        self, operations: Sequence[Operation], keep: Collection[str], shared: Collection[str] = ()
    ) -> list[_Step]:
        """shared: values that are read at the end besides the outputs, so that their buffers must not change."""
        wanted = {*keep, *shared}
        dropped = dropped_after(operations, wanted)
        in_place = in_place_updates(operations, wanted)
        return [
            _Step(
                operation,
                tuple((part, self._argument(part, given)) for part, given in operation.inputs.items()),
                dropped[number],
                half=not self.exact and any(output.type.dtype == "float16" for output in operation.outputs),
                in_place=number in in_place,
            )
            for number, operation in enumerate(operations)
        ]

    def _argument(self, part: str, given: Sequence[Any]) -> Any:
        found = [_Name(value) if isinstance(value, str) else self._constants.literal(value) for value in given]
        return found if part == "values" else found[0]

    def _prepare_reading(self, read: Sequence[str]) -> list[_Step]:
        """All steps, keeping the values that are to be read."""
        key = tuple(read)
        if key not in self._reading:
            operations = [step.operation for step in self._steps]
            known = {output.name for operation in operations for output in operation.outputs}
            for name in read:
                if name not in known and name not in self._constants:
                    raise ProgramInputError(f"The program has no value {name} that could be read")
            self._reading[key] = self._prepare(operations, self.function.block.outputs, read)
        return self._reading[key]

    def _needed(self, given: frozenset[str], read: Sequence[str]) -> list[_Step]:
        """The operations between `given` and `read`, in order."""
        wanted = set(read) - given
        needed: list[Operation] = []
        for step in reversed(self._steps):
            operation = step.operation
            if wanted.isdisjoint(output.name for output in operation.outputs):
                continue
            if operation.type in STATE_OPERATIONS:
                raise CorruptModelError(
                    f"{', '.join(read)} can't be computed from {', '.join(given)}: it needs a state"
                )
            wanted |= set(names(operation)) - given
            needed.append(operation)
        made = {output.name for operation in needed for output in operation.outputs}
        missing = sorted(name for name in wanted - made if name not in self._constants)
        if missing:
            raise CorruptModelError(f"{', '.join(read)} can't be computed without {', '.join(missing)}")
        return self._prepare(needed[::-1], read)


class _Name(str):
    """The name of a value; a plain str is a constant text."""

    __slots__ = ()


def refuse_unknown(operations: Sequence[Operation], path: Path) -> None:
    """Raises UnknownOperationError, naming the first operation that can't be evaluated."""
    for operation in operations:
        if operation.type not in OPERATIONS and operation.type not in STATE_OPERATIONS | CONSTANT_OPERATIONS:
            raise UnknownOperationError(
                f"{path.name}: operation {operation.type} ({operation.name}) is not one that Satchel evaluates; "
                "the package itself may well be right. Try it on a device."
            )


def _state_of(operation: Operation) -> str:
    name = operation.inputs["input"][0]
    if not isinstance(name, str):
        raise TypeError("a state has a name")
    return name


def _shapes(feature: Feature) -> str:
    if feature.enumerated:
        return " or ".join(map(str, feature.enumerated))
    if feature.ranges:
        return "x".join(f"{least}..{most if most >= 0 else ''}" for least, most in feature.ranges)
    return str(feature.shape)
