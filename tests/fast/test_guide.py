"""Every snippet of the guide stands, word for word, in a source that the Kotlin tests compile."""

import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guide-android.md").read_text(encoding="utf-8")
TEMPLATES = ROOT / "sdk_templates" / "android"
SOURCES = {
    "kotlin": TEMPLATES / "android" / "src" / "test" / "kotlin" / "dev" / "example" / "app" / "GuideSnippets.kt",
    "java": TEMPLATES / "core" / "src" / "test" / "java" / "dev" / "satchel" / "GuideSnippets.java",
}
SNIPPETS = [
    (language, text)
    for language, text in re.findall(r"```(kotlin|java)\n(.*?)```", GUIDE, re.DOTALL)
    if not text.startswith("// settings.gradle.kts\n")
]


def test_there_are_snippets_in_both_languages() -> None:
    assert {language for language, _ in SNIPPETS} == {"kotlin", "java"}
    assert len(SNIPPETS) == 7


@pytest.mark.parametrize(("language", "text"), SNIPPETS)
def test_a_snippet_is_compiled(language: str, text: str) -> None:
    source = SOURCES[language].read_text(encoding="utf-8")
    assert text in source or textwrap.indent(text, "    ") in source
