"""Writes the contract's SDL to `schema/schema.graphql`: `python -m schema.export`."""

from pathlib import Path

from schema.contract import schema

SDL_PATH = Path(__file__).with_name("schema.graphql")


def sdl() -> str:
    """The contract in GraphQL's schema definition language."""
    return schema.as_str() + "\n"


if __name__ == "__main__":
    SDL_PATH.write_text(sdl(), encoding="utf-8")
