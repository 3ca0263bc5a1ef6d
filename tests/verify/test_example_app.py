"""The example app on the oldest Android that it supports."""

from pathlib import Path

from example_android import BuiltApp
from on_robolectric import ANDROID_8, run_screen_tests
from satchel.cache import Cache


def test_the_app_answers_on_android_8(example_app: BuiltApp, tmp_path: Path) -> None:
    report = run_screen_tests(example_app, ANDROID_8, Cache.default(), tmp_path)
    assert 'tests="5" errors="0" skipped="0" failures="0"' in report
