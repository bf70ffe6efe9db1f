"""Which training the commands of `segpipe show` are about."""

from segpipe.params import Params, not_allowed
from segpipe.wire import ROUNDS


def chosen_member(params: Params, member_name: str | None, round_: str) -> str:
    """The member of that name, the first for None; ValueError for an unknown one, or a round not in ROUNDS."""
    name = member_name or params.member_names[0]
    if name not in params.member_names:
        raise ValueError(not_allowed("--member", name, params.member_names))
    if round_ not in ROUNDS:
        raise ValueError(not_allowed("--round", round_, ROUNDS))
    return name
