"""What a file is that should have been GGUF, told by its first bytes, with the step that helps."""

_BEGINNINGS = (
    (b"version https://git-lfs", "it is a git-lfs pointer. Run git lfs pull where it was cloned."),
    (b"<!doctype html", "it is a web page. Download the file itself, not the page that shows it."),
    (b"<html", "it is a web page. Download the file itself, not the page that shows it."),
    (b"ggjt", "it has a format before GGUF. Get one that was converted later."),
    (b"tjgg", "it has a format before GGUF. Get one that was converted later."),
    (b"lmgg", "it has a format before GGUF. Get one that was converted later."),
    (b"PK", "it is a zip archive, or weights as a pickle. Unpack it, or get the GGUF file."),
    (b"{", "it is JSON text. Get the file itself."),
)


def what_it_is_instead(start: bytes) -> str:
    """The end of a sentence; start: the first bytes of the file, all of them if it is shorter."""
    if len(start) < 4:
        return f"it has only {len(start)} bytes. Download it again."
    text = start.lstrip().lower()
    for beginning, meaning in _BEGINNINGS:
        if text.startswith(beginning.lower()):
            return meaning
    return "it does not start with GGUF. Get the file again."
