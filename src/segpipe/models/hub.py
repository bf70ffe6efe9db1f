"""Published files: from the hub's cache without a word to the hub, else from the hub.

A hub that cannot be reached is told within seconds, where its own client would try again for up to a minute.
"""

from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError

from segpipe.stage import first_line

SECONDS = 3.0  # that the hub has to answer; a name server that does not answer counts too
_AWAY: dict[str, str] = {}  # hubs that this process could not reach, and why: asked once, not for every member


@dataclass(frozen=True)
class Published:
    """A file in a repository of the hub; without `revision` the newest."""

    repository: str
    file: str
    revision: str | None = None

    @property
    def cached(self) -> Path | None:
        """Where it lies in the hub's cache; None where it does not."""
        path = huggingface_hub.try_to_load_from_cache(self.repository, self.file, revision=self.revision)
        return Path(path) if isinstance(path, str) else None


def fault(published: Published) -> str | None:
    """Why the file cannot be had; None where it lies in the cache or the hub has it. Downloads nothing."""
    if published.cached:
        return None
    hub = constants.ENDPOINT
    if hub not in _AWAY:
        answer = _ask(published)
        if answer is None:
            return None
        if isinstance(answer, HfHubHTTPError):  # it can be reached, and says no
            return f"{hub} does not give {published.file} of {published.repository} ({first_line(answer)})"
        _AWAY[hub] = first_line(answer)
    return (
        f"{published.file} of {published.repository} is not in the cache {constants.HF_HUB_CACHE}, and {hub} could not "
        f"be reached ({_AWAY[hub]})"
    )


def fetch(published: Published) -> Path:
    """Where the file lies, after a download where it must be. Raises ValueError saying why it cannot be had."""
    if reason := fault(published):
        raise ValueError(reason)
    try:
        # what is cached is taken as it is: a run offline, or next month, has the same weights
        return published.cached or Path(
            huggingface_hub.hf_hub_download(published.repository, published.file, revision=published.revision)
        )
    except Exception as error:  # the client raises a dozen unrelated types
        reason = f"{published.file} of {published.repository} could not be downloaded ({first_line(error)})"
        raise ValueError(reason) from error


def _ask(published: Published) -> Exception | None:
    """What went wrong when the hub was asked for the file's size; in a thread, as no timeout covers name servers."""
    answers: list[Exception | None] = []

    def ask() -> None:
        url = huggingface_hub.hf_hub_url(published.repository, published.file, revision=published.revision)
        try:
            huggingface_hub.get_hf_file_metadata(url, timeout=SECONDS)
            answers.append(None)
        except Exception as error:  # as above
            answers.append(error)

    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS + 0.5)
    return answers[0] if answers else TimeoutError(f"no answer within {SECONDS:.0f} s")
