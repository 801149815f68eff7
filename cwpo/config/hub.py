"""Asks the Hugging Face hub once whether it answers. If it does not, only the local cache is used from then on."""

import copy
import functools
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from cwpo.config.assets import is_hub_id

WAIT = 3.0  # seconds
P = ParamSpec("P")
T = TypeVar("T")


@functools.cache
def hub_answers() -> bool:
    """Whether the hub answers within WAIT seconds; False if HF_HUB_OFFLINE is set.

    If it does not answer, this prints one line, and this process and its children stay offline.
    """
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return False
    answers: list[object] = []
    asking = threading.Thread(target=lambda: answers.append(_ask(constants.ENDPOINT)), daemon=True)
    asking.start()
    asking.join(WAIT)
    if answers and answers[0]:
        return True
    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True
    if "datasets" in sys.modules:
        sys.modules["datasets"].config.HF_HUB_OFFLINE = True
    print(
        f"the hub ({constants.ENDPOINT}) does not answer; only folders here and files in its cache are used",
        file=sys.stderr,
        flush=True,
    )
    return False


def reach(path: Any) -> None:
    """Calls hub_answers if `path` is a hub id. If the hub is silent, later loads use only the cache."""
    if is_hub_id(str(path)):
        hub_answers()


def _ask(address: str) -> bool:
    from huggingface_hub import get_session

    try:
        get_session().head(address, timeout=WAIT)
    except Exception:  # the HTTP client raises errors of many types; each means that nothing can be fetched
        return False
    return True


def asked_once(question: Callable[P, T]) -> Callable[P, T]:
    """Wraps a function whose first argument is a path: caches the results for hub ids, but not for local paths."""
    kept: Any = functools.cache(question)

    @functools.wraps(question)
    def ask(*args: P.args, **more: P.kwargs) -> T:
        path: Any = args[0]
        if not is_hub_id(path):
            return question(*args, **more)
        reach(path)
        answer: T = copy.deepcopy(kept(*args, **more))
        return answer

    return ask
