"""The one exception for input the user can fix."""

from collections.abc import Sequence


class InputError(ValueError):
    """Wrong input. Carries every problem found, each naming the value, the reason and the fix; exit code 2."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type, tuple[list[str]]]:
        return (type(self), (self.problems,))
