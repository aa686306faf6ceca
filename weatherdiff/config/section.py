"""What all sections of a configuration have in common."""

from pydantic import BaseModel, ConfigDict

__all__ = ["Section"]


class Section(BaseModel):
    """A mapping of known keys, which does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)
