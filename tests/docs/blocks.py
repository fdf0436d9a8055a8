"""The fenced code blocks of the README and of docs/."""

import re
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
PAGES = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))

PROGRAMS = {"sh", "python", "js", "ts"}
CHECKED = {"graphql", "json", "toml"}
SHOWN = {"mermaid", "sql", "text"}
"""Blocks that are no programs: diagrams, commands for a database, and what is sent over the network."""

NOT_RUN = re.compile(r"(pip install uv && )?uv run (--no-dev )?(server\.py|pytest)\b.*")
"""Shell commands that start the server or these tests. Running them here would prove nothing new."""

_BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """One code block, and where it is."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"

    @property
    def is_run(self) -> bool:
        """Whether it is a program that the tests run."""
        if self.language not in PROGRAMS:
            return False
        commands = [line for line in self.text.splitlines() if line and not line.startswith("#")]
        return self.language != "sh" or not all(NOT_RUN.fullmatch(command) for command in commands)

    @property
    def resumes(self) -> bool:
        """Whether it follows a channel also through a restart, as the docs promise. The shortest one, in the README,
        does not."""
        return self.language != "sh" and self.page.name != "README.md"


def all_blocks() -> list[Block]:
    """Every block of every page, in order."""
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, found[1], found[2])
        for page in PAGES
        for text in (page.read_text(),)
        for found in _BLOCK.finditer(text)
    ]
