"""The page's line about who else has read the model."""

from satchel.report.page.words import Json, figure


def reading_line(report: Json) -> str:
    """Empty for a report of before there was such a check."""
    reading = report.get("reading")
    if reading is None:
        return ""
    if reading["checked_by"] is None:
        return f"Nobody but Satchel has read this model: {reading['reason']}."
    prompts = reading["prompts"]
    same = [
        f"its logits (largest difference {figure(reading['logits_relative'], '.1e')} of the largest logit)",
        *([f"the ids of {prompts} prompt{'s' * (prompts != 1)}"] if prompts else []),
        *(["what ends an answer"] if reading["stop_ids"] else []),
    ]
    told = " and ".join(filter(None, [", ".join(same[:-1]), same[-1]]))
    without = f" Not compared: {'; '.join(reading['not_compared'])}." if reading["not_compared"] else ""
    return f"{reading['checked_by']} reads this model as Satchel does: {told}.{without}"
