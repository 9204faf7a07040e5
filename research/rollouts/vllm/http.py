"""HTTP calls to a vLLM server. Each has a time-out, and its errors name the server, the call and the answer."""

import os
from collections.abc import Mapping
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from research.errors import UserError

if TYPE_CHECKING:
    import requests

CONNECT_SECONDS = 10.0
"""Time limit for a connection to the host."""
CONTROL_SECONDS = 30.0
"""Time limit for calls that need no work of the model."""
POLL_SECONDS = 0.5
"""Pause between two attempts to reach a server that is away."""

COMMAND = (
    "VLLM_SERVER_DEV_MODE=1 vllm serve <the policy's path> --logprobs-mode processed_logprobs --generation-config vllm"
)
"""Command that starts a server for a policy without adapters."""
LORA_COMMAND = (
    "VLLM_SERVER_DEV_MODE=1 VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 vllm serve <the policy's path> "
    "--logprobs-mode processed_logprobs --generation-config vllm --enable-lora --max-lora-rank <the policy's rank>"
)
"""Command that starts a server for a policy with adapters."""


Body = Mapping[str, Any]
"""A JSON object that is sent with a call."""


class ServerError(UserError):
    """A call to the server failed.

    Args:
        message: server, call, answer and remedy.
        status: HTTP status of the answer; None without an answer.
        away: True if the connection failed, so that the server is down or restarting.
    """

    def __init__(self, message: str, *, status: int | None = None, away: bool = False) -> None:
        super().__init__(message)
        self.status, self.away = status, away


class Server:
    """A vLLM server.

    Calls ignore proxies of the environment, and send the key in the variable VLLM_API_KEY if it is set.

    Args:
        url: address, such as `http://host:8000`.
        request_timeout: time limit for an answer, in seconds.
        connections: most connections that are kept open.
    """

    def __init__(self, url: str, *, request_timeout: float, connections: int) -> None:
        self.url, self.request_timeout = url.rstrip("/"), request_timeout
        import requests
        from requests.adapters import HTTPAdapter

        self.session = requests.Session()
        self.session.trust_env = False
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(pool_maxsize=connections, max_retries=0))
        if key := os.environ.get("VLLM_API_KEY"):
            self.session.headers["Authorization"] = f"Bearer {key}"

    def check_health(self) -> None:
        """Check that the server is healthy.

        Raises: ServerError if it is not.
        """
        self._call("GET", "/health", None, min(CONTROL_SECONDS, self.request_timeout))

    def get(self, path: str, key: str) -> Any:
        """Read a value that needs no work of the model.

        Args:
            path: of the call.
            key: name of the value in the JSON answer.

        Raises: ServerError if the call fails or the answer lacks the key.
        """
        answer = self._call("GET", path, None, min(CONTROL_SECONDS, self.request_timeout))
        return self._said(answer, key, f"GET {path}")

    def post(self, path: str, body: Body | None = None) -> None:
        """Make a call without an answer.

        Raises: ServerError if it fails.
        """
        self._call("POST", path, body, self.request_timeout)

    def ask(self, path: str, key: str, body: Body | None = None) -> Any:
        """Make a call, and return the value of `key` in the JSON answer.

        Raises: ServerError if the call fails or the answer lacks the key.
        """
        return self._said(self._call("POST", path, body, self.request_timeout), key, f"POST {path}")

    def weights_label(self) -> str:
        """The label of the server's weights: `default` from its start until a run sets another one.

        Raises: ServerError if the call fails.
        """
        return str(self.get("/weight_info", "weight_version"))

    def wait(self, seconds: float) -> str:
        """Wait until the server is healthy, and return the label of its weights.

        Raises: UserError if it takes longer than `seconds`.
        """
        end = monotonic() + seconds
        while True:
            try:
                self.check_health()
                return self.weights_label()
            except ServerError as error:
                if monotonic() >= end:
                    raise UserError(
                        f"the vLLM server at {self.url} was lost and has not come back within {seconds:g} s ({error}) "
                        "Start it as before, then run the same command again: it resumes at the last checkpoint."
                    ) from error
            sleep(POLL_SECONDS)

    def close(self) -> None:
        """Close the connections."""
        self.session.close()

    def _call(self, method: str, path: str, body: Body | None, seconds: float) -> "requests.Response":
        import requests

        try:
            answer = self.session.request(method, self.url + path, json=body, timeout=(CONNECT_SECONDS, seconds))
        except requests.ReadTimeout as error:
            raise ServerError(
                f"the vLLM server at {self.url} has not answered {method} {path} within {seconds:g} s: look into its "
                "log, or raise request_timeout."
            ) from error
        except requests.RequestException as error:
            raise ServerError(
                f"the vLLM server at {self.url} cannot be reached for {method} {path} ({_reason(error)}): is it "
                f"running there? It is started with: {COMMAND}.",
                away=True,
            ) from error
        if not answer.ok:
            raise ServerError(
                f"the vLLM server at {self.url} answered {method} {path} with {answer.status_code} {answer.reason}: "
                f"{_first_line(answer)} {_advice(path, answer.status_code)}",
                status=answer.status_code,
            )
        return answer

    def _said(self, answer: "requests.Response", key: str, asked: str) -> Any:
        try:
            return answer.json()[key]
        except (ValueError, KeyError, TypeError) as error:
            raise ServerError(
                f"the server at {self.url} is no vLLM server: it said {_first_line(answer)} to {asked}, without "
                f"{key!r}. Check the url, and any proxy in between.",
                status=answer.status_code,
            ) from error


def _reason(error: BaseException) -> str:
    """The operating system's message, from the innermost of the chained exceptions."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _first_line(answer: "requests.Response") -> str:
    """The message of vLLM's error, or the first line of the body, quoted."""
    try:
        text = str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        text = answer.text
    lines = text.strip().splitlines()
    return repr(lines[0][:300] if lines else "")


def _advice(path: str, status: int) -> str:
    if status in (401, 403):
        return "Set the environment variable VLLM_API_KEY to the key that the server was started with."
    if status == 404 and path.endswith("lora_adapter"):
        return f"Start the server with: {LORA_COMMAND}."
    if status == 404 and not path.startswith("/v1/"):
        return f"Start the server, of vLLM 0.32 or later, with: {COMMAND}."
    return "The server's log says more."
