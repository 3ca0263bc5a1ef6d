"""The page made from report.json: complete, by itself, and right for any number of backends."""

import html
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from satchel.report.figures import (
    HISTOGRAM_EDGES,
    Excerpt,
    Figures,
    Gate,
    Histogram,
    Json,
    NextWord,
    Quarter,
    TextFigures,
)
from satchel.report.page import render_html
from satchel.report.page.charts import histogram
from satchel.report.page.tensors import kind_rows, layer_stacks
from satchel.report.page.views import gate_rows, parts_of
from satchel.report.page.words import figure, visible
from satchel.report.reading import Reading, unchecked
from satchel.report.report import (
    BackendReport,
    FileRecord,
    ReportHeader,
    SameCodes,
    TensorRecord,
    merged,
    new_report,
    with_reading,
    with_same_codes,
)

HEADER = ReportHeader("tiny", "int4", "directory tiny", "ce" * 32, "apache-2.0", 128)
LAYERS = 3
COUNTS = (0, 0, 1, *([100] * 10), 5, 0, 3, *([0] * 10))
FIGURES = Figures(
    tokens=1009,
    kl_mean=0.0193,
    kl_p99=0.214,
    top1=0.9234,
    ppl_ratio=1.0123,
    load_s=0.41,
    prefill_tps=1001.0,
    decode_tps=182.0,
    peak_rss_mb=503.0,
    kl_standard_error=0.0012,
    top1_standard_error=0.0054,
    kl_by_quarter=(Quarter(0.0181, 0.0021), Quarter(0.0192, 0.0022), Quarter(0.0203, None), Quarter(0.0278, 0.0024)),
    kl_at_end=(0.011, 0.0123, 0.5),
    worst_share=0.3141,
    machine="a fast machine",
    texts=(TextFigures("prose <b>", 509, 0.0191, 0.2, 0.93, 1.01), TextFigures("code", 500, 0.0195, 0.23, 0.91, 1.02)),
    histogram=Histogram(HISTOGRAM_EDGES, COUNTS),
    worst=(
        Excerpt(
            text="code",
            position=17,
            in_chunk=True,
            kl=1.237,
            before="if a <i>b</i>:\n",
            following="    ",
            original=(NextWord(" return", 0.71), NextWord("\n", 0.1)),
            packaged=(NextWord("</ol>", 0.64),),
        ),
    ),
    gates={
        "kl_mean": Gate(0.0193, 0.035, error=0.0012),
        "kl_worst_quarter": Gate(0.0278, 0.035, error=0.0024, in_favour=True),
        "top1": Gate(0.9234, 0.88, at_least=True, error=0.0054),
    },
)


def tensors(layers: int = LAYERS) -> tuple[TensorRecord, ...]:
    """A tied model's: a table, and per layer one matrix of 100 and one of 50 bytes, and a norm of 8."""
    found = [TensorRecord("model.embed_tokens.weight", (64, 8), "Q8_0", "int8", "requantized", 512)]
    for layer in range(layers):
        stem = f"model.layers.{layer}"
        found += [
            TensorRecord(f"{stem}.self_attn.q_proj.weight", (8, 8), "Q4_1", "int4 + offset", "transcoded", 50),
            TensorRecord(f"{stem}.mlp.down_proj.weight", (8, 16), "Q4_1", "int4 + offset", "transcoded", 100),
            TensorRecord(f"{stem}.input_layernorm.weight", (8,), "F32", "float", "float", 8),
        ]
    return tuple(found)


GRAPH = {
    "complete": True,
    "max_abs": 3e-6,
    "relative": 2e-7,
    "plain_max_abs": 1e-6,
    "decomposed_max_abs": 3e-6,
    "scale": 17.2,
    "layers": 2,
    "positions": 144,
}
TOKENIZER = FileRecord("tokenizer", "tokenizer.bin", 77, "77" * 32)
PART = BackendReport(
    artifact="model.pte",
    bytes=1000,
    sha256="ab" * 32,
    predicted_bytes=990,
    bits_per_weight=7.24,
    graph=GRAPH,
    weights=dict.fromkeys(("a", "b"), True),
    figures=FIGURES,
    gates={"graph_relative": Gate(2e-7, 2e-5), "size_off_prediction": Gate(0.0101, 0.03)},
    files=(FileRecord("program", "model.pte", 1000, "ab" * 32), TOKENIZER),
    tensors=tensors(),
    tools={"executorch": "1.5.1", "python": "3.11.9"},
    command=("satchel", "build", "my models/tiny", "--backend", "executorch"),
)
LITERT = replace(
    PART,
    artifact="model.tflite",
    sha256="12" * 32,
    files=(
        FileRecord("program", "model.tflite", 900, "12" * 32),
        FileRecord("litertlm", "model.litertlm", 950, "34" * 32),
        TOKENIZER,
    ),
    tools={"ai-edge-litert": "2.3.0", "python": "3.11.9"},
)
LIBRARIES = [FileRecord("library", "dev.satchel:tiny-int4:0.1.0", 4321, "56" * 32)]


def report(**parts: BackendReport) -> Json:
    found = new_report(HEADER)
    for name, part in (parts or {"executorch": PART}).items():
        found = merged(found, name, part, LIBRARIES)
    return found


def text_of(page: str) -> str:
    """The page as read: no style, no tags, single blanks."""
    body = page[page.index("<body>") :]
    body = body.replace("<wbr>", "")
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


class Checker(HTMLParser):
    """Remembers tags that don't close, headers without scope, and drawings without title or description."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.problems: list[str] = []
        self.ids: list[str] = []
        self.labels: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in ("meta", "br", "wbr"):
            self.open.append(tag)
        if tag == "th" and "scope" not in found:
            self.problems.append("a th without scope")
        self.ids += [found["id"] or ""] if "id" in found else []
        self.labels += [found["aria-labelledby"] or ""] if "aria-labelledby" in found else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Only drawings have such tags."""

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes something else")


def test_the_page_stands_alone_and_is_well_formed() -> None:
    page = render_html(report(executorch=PART, litert=LITERT))
    assert not re.search(r"""(src|href)\s*=|url\(|@import|<script|<link|https?:""", page)
    checker = Checker()
    checker.feed(page)
    assert checker.problems == [] and checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)
    assert set(checker.labels) <= set(checker.ids)
    assert page.count("<svg") == 4
    assert len(re.findall(r"<svg[^>]*role=\"img\"[^>]*><title>[^<]+</title><desc>[^<]+</desc>", page)) == 4
    for scheme in ("prefers-color-scheme: dark", "@media print", "width=device-width"):
        assert scheme in page


def test_everything_in_the_report_is_on_the_page() -> None:
    read = text_of(render_html(report(executorch=PART, litert=LITERT)))
    for shown in (
        "Passed", "1.0 kB", "7.24", "0.0193", "0.214", "92.3%", "1.012", "182", "1001", "0.41", "503", "31%",
        "a fast machine", "transcoded", "int4 + offset", "1.5.1", "2.3.0", "3.11.9", "ab" * 32, "34" * 32, "56" * 32,
        "ce" * 32, "dev.satchel:tiny-int4:0.1.0", "model.litertlm", "144 positions", "3.0\u00d710⁻⁶", "2 of 2 tensors",
        "satchel build 'my models/tiny' --backend executorch", "1.24 nats", "token 17", "71.0%", "64.0%",
    ):  # fmt: skip
        assert shown in read, shown
    assert read.count("77" * 32) == 1  # both bundles have this very file
    assert "ExecuTorch, LiteRT: tokenizer for devices" in read


def test_what_it_shows_is_escaped() -> None:
    page = render_html(report())
    for shown in ("prose &lt;b&gt;", "if a &lt;i&gt;b&lt;/i&gt;:\n", "&lt;/ol&gt;"):
        assert shown in page


@pytest.mark.parametrize(
    ("token", "shown"),
    [(" a", "␣a"), ("a b", "a b"), ("\n\n", "↵↵"), ("    ", "␣␣␣␣"), (" \t", "␣⇥"), ("", ""), ("a  ", "a␣␣")],
)
def test_blanks_of_a_token_can_be_seen(token: str, shown: str) -> None:
    assert visible(token) == shown


def test_a_failed_gate_is_the_first_thing_said() -> None:
    figures = replace(FIGURES, kl_mean=0.51, gates={"kl_mean": Gate(0.51, 0.035)})
    failed = report(executorch=replace(PART, figures=figures), litert=LITERT)
    page = text_of(render_html({**failed, "next_recipe": "int8"}))
    assert "Failed ExecuTorch: mean KL divergence is 0.51 and must be at most 0.035." in page
    assert page.index("Failed") < page.index("Figures and gates")
    assert "leaves the last good output alone. Try --recipe int8." in page
    assert "LiteRT: mean KL" not in page


def test_other_weights_and_other_codes_are_named() -> None:
    read = text_of(render_html(report(executorch=replace(PART, weights={"one": True, "two": False}))))
    assert "1 of 2 tensors read back from model.pte differ from the quantized model's (two)" in read
    both = report(executorch=PART, litert=LITERT)
    same = with_same_codes(both, SameCodes(("executorch", "litert"), 211, ()))
    assert "All 211 tensors" in text_of(render_html(same))
    other = with_same_codes(both, SameCodes(("executorch", "litert"), 211, ("lm_head.weight",)))
    assert "Failed ExecuTorch and LiteRT hold different codes of lm_head.weight." in text_of(render_html(other))


def test_what_was_not_measured_is_said() -> None:
    read = text_of(render_html(report(executorch=replace(PART, figures=None))))
    assert "Weights proven, behaviour not measured" in read
    assert "Nothing was run" in read
    mixed = text_of(render_html(report(executorch=PART, litert=replace(LITERT, figures=None))))
    assert "How close the answers of LiteRT are to the original's was not measured" in mixed
    assert "0.0193" in mixed


def test_a_target_that_failed_shows_beside_a_verdict_that_passed() -> None:
    bad = replace(FIGURES, gates={"top1": Gate(0.5, 0.88, at_least=True)})
    both = report()
    both["backends"]["executorch"]["targets"]["jvm"] = bad.to_dict()
    read = text_of(render_html(both))
    assert "Passed" in read
    assert "Failed elsewhere ExecuTorch on jvm: same most likely token is 50% and must be at least 88%." in read


def test_not_a_number_has_a_page() -> None:
    figures = replace(
        FIGURES,
        kl_mean=math.nan,
        kl_p99=math.nan,
        ppl_ratio=math.inf,
        worst_share=None,
        worst=(),
        histogram=Histogram(HISTOGRAM_EDGES, (0,) * 26),
        texts=(TextFigures("code", 9, math.nan, math.nan, 0.0, math.nan),),
        gates={"kl_mean": Gate(math.nan, 0.035)},
    )
    read = text_of(render_html(json.loads(json.dumps(report(executorch=replace(PART, figures=figures))))))
    assert "mean KL divergence is not a number and must be at most 0.035" in read


def test_a_backend_nobody_here_knows_has_its_column() -> None:
    """A recipe without gates for it, other tensors, its own name."""
    other = replace(
        PART,
        artifact="model.other",
        figures=replace(FIGURES, gates={}),
        gates={},
        tensors=tensors(2),
        graph={"max_abs": 2e-5, "relative": 2e-5},
    )
    read = text_of(render_html(report(executorch=PART, litert=LITERT, coreml=PART, other=other)))
    for label in ("ExecuTorch", "LiteRT", "Core ML", "other"):
        assert read.count(label) > 5
    assert "2.0\u00d710⁻⁵" in read


def test_meters_show_the_figure_against_its_limit() -> None:
    figures = replace(FIGURES, gates={"kl_mean": Gate(0.07, 0.035), "top1": Gate(0.66, 0.88, at_least=True)})
    rows = {row.label: row.cells[0] for row in gate_rows(parts_of(report(executorch=replace(PART, figures=figures))))}
    kl, top1 = rows["Mean KL divergence"].meter, rows["Same most likely token"].meter
    assert kl is not None and top1 is not None
    assert (kl.passed, kl.fill, kl.tick, kl.limit) == (False, 100.0, 50.0, "≤ 0.035")
    assert (top1.passed, top1.fill, top1.tick, top1.limit) == (False, 66.0, 88.0, "≥ 88%")


def test_a_figure_that_fails_does_not_look_like_its_limit() -> None:
    figures = replace(FIGURES, gates={"kl_mean": Gate(0.03501, 0.035), "top1": Gate(0.8799, 0.88, at_least=True)})
    rows = {row.label: row.cells[0] for row in gate_rows(parts_of(report(executorch=replace(PART, figures=figures))))}
    assert rows["Mean KL divergence"].text == "0.03501"
    assert rows["Same most likely token"].text == "87.99%"


def test_backends_keep_order_and_colour_whichever_was_built_last() -> None:
    for names in (("coreml", "zebra", "executorch"), ("zebra", "executorch", "coreml")):
        found = parts_of(report(**dict.fromkeys(names, PART)))
        assert [(part.label, part.hue) for part in found] == [("ExecuTorch", 0), ("Core ML", 2), ("zebra", 3)]


def test_bytes_are_shared_out_by_kind_and_layer() -> None:
    parts = parts_of(report(executorch=PART, litert=replace(LITERT, tensors=tensors(2))))
    rows = kind_rows(parts)
    assert [(row.kind, row.tensors, list(row.bytes)) for row in rows] == [
        ("embedding and head", 1, [512, 512]),
        ("attention q", LAYERS, [150, 100]),
        ("MLP down", LAYERS, [300, 200]),
        ("norms", LAYERS, [24, 16]),
        ("graph, constants, alignment", 0, [14, 172]),
    ]
    layered = [row for row in rows if row.in_layers]
    assert layer_stacks(parts[0], layered) == [[50, 100, 8]] * LAYERS


def test_the_histogram_marks_limit_and_mean_where_they_lie() -> None:
    figures = replace(FIGURES, kl_mean=0.1, gates={"kl_mean": Gate(0.1, 0.01)}).to_dict()
    drawing = str(histogram("It", figures, 0, 0.1))
    limit, mean = (float(re.search(rf'class="{name}" d="M([\d.]+)', drawing)[1]) for name in ("gate", "mean"))  # type: ignore[index]
    decade = (360 - 38 - 6) * 4 / 26
    assert mean - limit == pytest.approx(decade, abs=0.2)
    above = sum(count for edge, count in zip((0.0, *HISTOGRAM_EDGES), COUNTS, strict=True) if edge >= 0.01)
    assert f"1009 positions, {above} of them in bins above the limit of the mean, 0.01 nats; mean 0.1000" in drawing
    assert drawing.count("<rect") == sum(count > 0 for count in COUNTS)


def test_a_large_model_has_a_page_that_opens_at_once() -> None:
    large = replace(PART, tensors=tensors(130))
    page = render_html(report(executorch=large, litert=replace(LITERT, tensors=large.tensors), coreml=large))
    assert len(page) < 500_000


def test_the_quarters_of_the_context_and_its_end_are_shown() -> None:
    other = replace(FIGURES, kl_by_quarter=(Quarter(0.0777, None),) * 4, kl_at_end=(0.1, 0.2, 0.3))
    report = merged(new_report(HEADER), "executorch", PART)
    page = render_html(merged(report, "litert", replace(LITERT, figures=other)))
    section = page.partition('id="reach"')[2].partition("How the divergence")[0]
    rows = [re.sub(r"<[^>]+>|\s+", " ", row).split() for row in section.split("<tr>")[2:6]]
    assert [row[:2] for row in rows] == [
        ["first", "quarter"],
        ["second", "quarter"],
        ["third", "quarter"],
        ["last", "quarter"],
    ]
    assert rows[0][2:] == ["0.0181", "\u00b1", "0.0021", "0.0777"]
    assert rows[2][2:] == ["0.0203", "0.0777"]
    assert re.search(r"2 before the end</th><td class=\"n\">0.0110</td><td class=\"n\">0.1000", section)
    unread = replace(FIGURES, kl_by_quarter=(), kl_at_end=())
    assert 'id="reach"' not in render_html(merged(new_report(HEADER), "executorch", replace(PART, figures=unread)))


def test_a_gate_shows_the_bound_that_it_compared() -> None:
    page = render_html(merged(new_report(HEADER), "executorch", PART))
    assert re.search(r"0.02127 with 95% confidence,.*\u2264 0.035", page)
    assert re.search(r"0.02385 with 95% confidence,.*\u2264 0.035", page)  # of the worst quarter, the better bound
    failed = replace(FIGURES, gates={"kl_mean": Gate(0.034, 0.035, error=0.002)})
    page = render_html(merged(new_report(HEADER), "executorch", replace(PART, figures=failed)))
    assert "mean KL divergence is 0.034 (0.03729 with 95% confidence) and must be at most 0.035" in page


def test_it_says_who_else_has_read_the_model() -> None:
    agreed = Reading("somebody 5.1", 3e-7, 3, True, ("how numbers are cut",))
    text = html.unescape(render_html(with_reading(report(), agreed)))
    assert (
        "somebody 5.1 reads this model as Satchel does: its logits (largest difference 3.0\u00d710⁻⁷ of the largest "
        "logit), the ids of 3 prompts and what ends an answer. Not compared: how numbers are cut."
    ) in text
    alone = html.unescape(render_html(with_reading(report(), unchecked("torch is not installed"))))
    assert "Nobody but Satchel has read this model: torch is not installed." in alone
    assert "has read this model" not in render_html(report())


def test_each_text_shows_what_the_original_needs_for_it() -> None:
    texts = (replace(FIGURES.texts[0], reference_bits_per_byte=0.9312), FIGURES.texts[1])
    figures = replace(FIGURES, texts=texts, reference_bits_per_byte=1.4567)
    page = render_html(merged(new_report(HEADER), "executorch", replace(PART, figures=figures)))
    for name, bits in (("prose &lt;b&gt;", "0.93"), ("code", "\u2013"), ("all", "1.46")):
        assert re.search(rf'<th scope="row">{name}</th><td class="n">[0-9,]+</td><td class="n">{bits}</td>', page)


def test_a_zero_has_no_power_of_ten() -> None:
    assert [figure(0.0, ".1e"), figure(1.2e-4, ".1e"), figure(0.0)] == ["0", "1.2\u00d710\u207b\u2074", "0.0000"]
