"""Pages as single HTML files that load nothing from elsewhere: their templates, and how a page was made."""

import platform
from importlib.metadata import version

from jinja2 import Environment, PackageLoader, StrictUndefined

from research.provenance import code

PACKAGES = ("torch", "transformers", "lightning")


def render(template: str, **context: object) -> str:
    """A filled-in template of `research/reporting/pages/templates`; all text is escaped.

    Args:
        template: the file's name.
        context: a value for each name in the template; a missing one is an error.
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
    """Command, commit and package versions that made a page."""
    packages = [f"Python {platform.python_version()}", *(f"{package} {version(package)}" for package in PACKAGES)]
    return {
        "command": command,
        "commit": str(code()),
        "versions": ", ".join(packages),
    }
