"""A warning where nothing would end an answer as the model was taught to: it would run to the limit of new tokens."""

from collections.abc import Sequence

from satchel.compile.assets import TextAssets


def ending_objection(stop_ids: Sequence[int], assets: TextAssets) -> str:
    """What is odd about the stop ids, in words; empty if the end of the template's assistant turn is one of them."""
    if not stop_ids:
        return (
            "nothing ends an answer: no file of the model names an eos token, so every answer runs to max_new_tokens. "
            "Write eos_token_id into generation_config.json."
        )
    role = assets.program.roles.get("assistant") if assets.program.kind == "chat" else None
    ends = [segment for segment in role.after if isinstance(segment, int)] if role is not None else []
    if not ends or any(end in stop_ids for end in ends):
        return ""
    return (
        f"the chat template ends an answer with the token {ends[0]}, which is none of the stop ids {list(stop_ids)}: "
        f"answers may run to max_new_tokens. Add {ends[0]} to eos_token_id in generation_config.json."
    )
