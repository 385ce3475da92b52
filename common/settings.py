"""Typed settings read from YAML or JSON: unknown keys are refused with the closest known one.

`Settings` is the base of every configuration class of the project; `parse` turns pydantic's report into one
`UserError` that names the file and the key.
"""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from common.errors import UserError, unknown


class Settings(BaseModel):
    """Frozen, and unknown keys are refused by name."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        """Pydantic refuses unknown keys too, but does not say which known key was probably meant."""
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    raise ValueError(str(unknown("key", str(key), cls.model_fields)))
        return data


Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model], data: Any, where: str) -> Model:
    """Validate `data` as `model`. Raises `UserError` with one line for each key that is wrong; `where` names the
    file."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"])
            text = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {key}: {text}" if key else f"{where}: {text}")
        raise UserError("\n".join(lines)) from None
