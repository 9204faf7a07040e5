"""Pages that need nothing but themselves: one HTML file, no script, nothing loaded from elsewhere."""

import platform
from importlib.metadata import version
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from research.provenance import code

PACKAGES = ("torch", "transformers", "lightning")


def render(template: str, **context: Any) -> str:
    """A template of `research/reporting/pages/templates`, filled in; every text is escaped.

    Args:
        template: the file's name.
        context: what the template names; one that is missing is an error.
    """
    environment = Environment(
        loader=PackageLoader("research.reporting.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**context)


def provenance(command: str) -> dict[str, str]:
    """What made a page: the command, the commit, the versions."""
    packages = [f"Python {platform.python_version()}", *(f"{package} {version(package)}" for package in PACKAGES)]
    return {
        "command": command,
        "commit": str(code()),
        "versions": ", ".join(packages),
    }
