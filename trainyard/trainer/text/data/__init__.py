"""The data of a text job: formats and splits, shapes of rows, bad rows, weights, streaming."""

from trainyard.trainer.text.data.corpus import in_parts, look
from trainyard.trainer.text.data.material import Corpus, Kind, Material, Row, Source

__all__ = ["Corpus", "Kind", "Material", "Row", "Source", "in_parts", "look"]
