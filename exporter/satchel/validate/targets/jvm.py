"""Target jvm: the Kotlin engine of the Android library on a desktop JVM, over the stand-in of the device's runtime."""

from collections.abc import Callable, Mapping

from satchel.runtimes.jvm import JvmEngine, build_host_engine, server_command
from satchel.validate.expected import Expected
from satchel.validate.measured import Behaviour, measured_behaviour
from satchel.validate.proofs import Program
from satchel.workshop import Workshop


def measure(
    program: Program,
    expected: Expected,
    limits: Mapping[str, float],
    progress: Callable[[int, int], None],
    workshop: Workshop,
) -> Behaviour:
    """Behaviour of the bundle that the program lies in, as an app would run it."""
    host = build_host_engine(workshop.cache, workshop.tools, program.backend.name)
    command = server_command(host, program.file.parent, workshop.tools, threads=1)
    engines: list[JvmEngine] = []

    def open_engine() -> JvmEngine:
        engines.append(JvmEngine(command, workshop.tools))
        return engines[-1]

    return measured_behaviour(
        expected,
        open_engine,
        lambda: engines[-1].peak_bytes() if engines else 0,
        limits,
        progress,
    )
