"""`input` and `getpass.getpass`, answered by the host."""

import builtins
import getpass as getpass_module
from collections.abc import Generator

from .frontend import Frontend


class Answer(str):
    """What the user typed. It can be awaited too, as notebooks for older kernels do."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, str]:
        return str(self)
        yield


def install(frontend: Frontend) -> None:
    def ask(prompt: object, password: bool) -> Answer:
        answer = frontend.ask(str(prompt), password)
        if answer is None:
            raise KeyboardInterrupt
        return Answer(answer)

    def input(prompt: object = "", /) -> str:  # noqa: A001
        """Asks the user for a line of text."""
        return ask(prompt, password=False)

    def getpass(prompt: str = "Password: ", stream: object = None, **_options: object) -> str:
        """Asks the user for a line of text that is not shown."""
        return ask(prompt, password=True)

    builtins.input = input
    getpass_module.getpass = getpass
