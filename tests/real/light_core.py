"""Run by test_light_core.py in an environment without torch: from a checkpoint and a skeleton to a Maven folder.

Arguments: model directory, skeleton folder, bundle to pack, SDK cache, output folder. Prints nothing; fails loudly.
"""

import sys
from pathlib import Path

from satchel.bundle.folder import read_bundle
from satchel.cache import Cache
from satchel.console import Console
from satchel.formats import pte
from satchel.package.android.libraries import Coordinates, package_android
from satchel.quantize.planning import plan_for
from satchel.quantize.quantize import quantize
from satchel.quantize.recipe import load_recipe
from satchel.quantize.stored import open_quantized
from satchel.skeleton.table import read_skeleton
from satchel.source.directory import open_directory
from satchel.tools import Tools

HEAVY = {
    "torch",
    "torchao",
    "transformers",
    "executorch",
    "ai_edge_litert",
    "litert_torch",
    "accelerate",
    "pandas",
    "scipy",
}


def main() -> None:
    model, skeleton_folder, bundle, sdk_cache, out = map(Path, sys.argv[1:])
    checkpoint = open_directory(model)
    quantize(checkpoint, plan_for(load_recipe("int4"), checkpoint), out / "quantized")
    weights = open_quantized(out / "quantized")
    skeleton = read_skeleton(skeleton_folder)
    pte.fill(skeleton, weights, out / "model.pte")
    equal = pte.read_back(out / "model.pte", skeleton.slots, weights)
    assert equal.keys() == set(weights.names()) | {"lm_head.weight"}, equal
    assert all(equal.values()), equal
    package_android([read_bundle(bundle)], out / "android", Coordinates(), Cache(sdk_cache), Tools(), Console.quiet())
    assert list((out / "android").glob("*.aar"))
    assert not HEAVY & set(sys.modules), HEAVY & set(sys.modules)


if __name__ == "__main__":
    main()
