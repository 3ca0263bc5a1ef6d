"""Who takes part."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """One program with one file.

    module: of this package. environment: whose interpreter runs it: "product", "bench" or "node". file: which of the
    files (compare.py). measures_closeness: False if its logits can't be had;
    the same program is then measured as a .tflite.
    """

    key: str
    label: str
    module: str
    environment: str
    file: str
    measures_closeness: bool = True
    ours: bool = False


PEERS = (
    Peer("pte-cpp", "Satchel `.pte`, C++ host engine", "executorch_cpp", "product", "pte", ours=True),
    Peer("pte-python", "Satchel `.pte`, ExecuTorch's Python", "executorch_python", "product", "pte", ours=True),
    Peer("tflite", "Satchel `.tflite`, CompiledModel", "litert", "product", "tflite", ours=True),
    Peer("litertlm", "Satchel `.litertlm`, LiteRT-LM engine", "litert_lm", "bench", "litertlm", False, ours=True),
    Peer("export", "LiteRT-LM's int8 `.tflite`, CompiledModel", "litert", "product", "export_tflite"),
    Peer("export-lm", "LiteRT-LM's int8 `.litertlm`, its engine", "litert_lm", "bench", "export_litertlm", False),
    Peer("llama-native", "llama.cpp on the GGUF, compiled here", "llama_cpp_python", "bench", "gguf"),
    Peer("llama-node", "llama.cpp on the GGUF, node-llama-cpp", "node_llama_cpp", "node", "gguf"),
)
