"""Prompts of our own, for `validation_prompt_library`: subjects, light, materials, writing, counting, places."""

from collections.abc import Mapping
from typing import Final

LIBRARY: Final[Mapping[str, str]] = {
    "portrait": "a portrait of an old fisherman in a yellow raincoat, grey sea behind him",
    "hands": "two hands kneading dough on a floured wooden table, seen from above",
    "animal": "a red fox standing in fresh snow at the edge of a forest",
    "street": "a narrow street after rain at night, shop windows mirrored in the wet stones",
    "landscape": "a green valley with a winding river under tall white clouds",
    "room": "a sunlit kitchen with blue tiles, a bowl of lemons on the window sill",
    "glass": "three glass bottles, one green, one brown, one clear, on a white shelf",
    "sign": 'a wooden sign on a garden gate that reads "OPEN"',
    "drawing": "an ink drawing of a sailing boat, a few thin lines on rough paper",
    "pattern": "a close view of woven cloth with a pattern of orange and blue diamonds",
}
