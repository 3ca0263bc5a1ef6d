"""Every error of Satchel and the exit code of the command that meets it.

A message says what is wrong, with which value, and what to do next. Only `satchel.cli.main` turns an error into an
exit code; everything else raises.
"""


class SatchelError(Exception):
    """Root of all errors that Satchel raises on purpose."""

    exit_code = 1


# --- 2: wrong usage ---------------------------------------------------------------------------------------------


class UsageError(SatchelError):
    """An option, argument or recipe asks for something that does not exist or does not fit together."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe file is missing, malformed or names an unknown key or value."""


class OutputError(UsageError):
    """The output folder holds what Satchel did not make and would replace, or is the model's own."""


class NotBuiltYetError(UsageError):
    """A backend or target that the design names but this version does not have."""


# --- 3: a gate failed -------------------------------------------------------------------------------------------


class GateFailedError(SatchelError):
    """The converted model is too far from the original, or a proof failed."""

    exit_code = 3


class GraphProofError(GateFailedError):
    """A lowered program computes something else than Hugging Face's model, or holds weights that no slot tells of."""


# --- 4: the model or the bundle can't be used -------------------------------------------------------------------


class ModelError(SatchelError):
    """The model can't be used. Subclasses name the cause."""

    exit_code = 4


class ModelNotFoundError(ModelError):
    """Nothing at that path, alias, repository or revision."""


class UnsafeModelError(ModelError):
    """Pickle weights or code that would have to be executed to load the model."""


class UnsupportedModelError(ModelError):
    """An architecture or a feature of it that can't be lowered exactly."""


class UnknownOperationError(ModelError):
    """A Core ML program has an operation that the evaluator does not know."""


class CorruptModelError(ModelError):
    """A truncated or damaged file, or a wrong hash."""


class BadWeightsError(ModelError):
    """A tensor is missing, has the wrong shape, or holds NaN or infinity."""


class NonsenseError(ModelError):
    """The float model itself does not predict text."""


class TokenizerError(ModelError):
    """The tokenizer is missing, does not match the embedding, or can't be represented exactly."""


class PromptTemplateError(ModelError):
    """The chat template can't be represented exactly as a prompt program."""


class ContextLengthError(ModelError):
    """A context longer than the model's, or a prompt longer than the context."""


class HubError(ModelError):
    """The model hub refused, could not be reached, or has no such model."""


class BundleError(ModelError):
    """The bundle is missing, incomplete, damaged, or of an unknown schema."""


class ReadingError(ModelError):
    """Satchel reads the model unlike transformers does: other logits, prompt ids or stop ids."""


class ReferenceMissingError(ModelError):
    """The float reference of a bundle is neither in the cache nor named by --model."""


# --- 5: a tool or dependency is missing -------------------------------------------------------------------------


class ToolMissingError(SatchelError):
    """A program or Python package that this step needs is not installed."""

    exit_code = 5


class ProgramMissingError(ToolMissingError):
    """A program that pip can't bring is missing. `reason`: without what to do, which several of them have in common."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason} {remedy}")
        self.reason = reason


# --- 1: anything else -------------------------------------------------------------------------------------------


class OutputBusyError(SatchelError):
    """Another build is writing to the same output folder."""


class ToolFailedError(SatchelError):
    """An external program was found and failed; the message carries the end of its output."""


class ProgramInputError(SatchelError):
    """A Core ML program was given an input that it does not take: a wrong name, shape or type."""


class LogitsError(SatchelError):
    """A runtime gave logits that no token can be drawn from: NaN, positive infinity, or nothing finite."""


class LoweringError(SatchelError):
    """A converter failed on a model that should have been lowerable."""


class InternalError(SatchelError):
    """A consistency check of Satchel's own failed (a defect to report)."""
