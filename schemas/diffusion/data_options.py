"""Options of the data, for every data set that does not say it itself, and of the caches."""

from functools import partial
from typing import Annotated, Literal

from attrs import field, frozen

from schemas.diffusion.dataloader import CaptionStrategy, Entry, ResolutionType
from schemas.diffusion.loss_options import LossOptions
from schemas.diffusion.option import option
from schemas.fields import INTERNAL
from schemas.limits import Range
from schemas.train_terms import AtLeastOne, Fraction, OnBadRow, Positive, Text

_data = partial(option, "data")
_caching = partial(option, "caching")


@frozen(kw_only=True)
class DataOptions(LossOptions):
    """What is learnt from."""

    data_backend_config: tuple[Entry, ...] | Text | None = _data(
        None, "the dataloader: a list of objects, or the path of a file with one; none: datasets", path=True
    )
    resolution: Positive = _data(1024, "size of a training picture, in resolution_type's unit")
    resolution_type: ResolutionType = _data(
        "pixel_area", "pixel: shorter edge; pixel_area: edge of a square of that area; area: megapixels"
    )
    minimum_image_size: Positive | None = _data(None, "smaller files are left out; in resolution_type's unit")
    maximum_image_size: Positive | None = _data(None, "larger files are made smaller first")
    target_downsample_size: Positive | None = _data(None, "with maximum_image_size: to this size")
    caption_strategy: CaptionStrategy = _data(
        "filename", "where captions come from", values={"instance_prompt": "instanceprompt"}, later=("parquet",)
    )
    instance_prompt: Text | None = _data(None, "of instanceprompt: the caption of every picture")
    prepend_instance_prompt: bool = _data(False, "put instance_prompt before every caption")
    only_instance_prompt: bool = _data(False, "instance_prompt in place of every caption")
    caption_dropout_probability: Fraction = _data(0.1, "share of the captions that are left empty")
    aspect_bucket_rounding: Annotated[int, Range(ge=1, le=9)] = _data(2, "decimals of a bucket's aspect ratio")
    aspect_bucket_alignment: Literal[8, 16, 24, 32, 64] = _data(64, "edges of a bucket are multiples of so many pixels")
    allow_dataset_oversubscription: bool = _data(False, "raise repeats where a data set has too few for a batch")
    disable_bucket_pruning: bool = _data(False, "keep buckets that have too few for a batch")
    data_backend_sampling: Literal["uniform", "auto-weighting"] = _data(
        "auto-weighting", "data sets in equal parts, or by their sizes; both times probability"
    )
    conditioning_multidataset_sampling: Literal["combined", "random"] = _data(
        "random", "pictures to edit: all of a sample, or one of them"
    )
    dataloader_prefetch: bool = _data(False, "read batches ahead, also such as are made on demand")
    dataloader_prefetch_qlen: AtLeastOne = _data(10, "with dataloader_prefetch: how many steps ahead")
    max_workers: AtLeastOne = _data(32, "threads that read pictures, at most")
    cache_dir: Text | None = _caching(None, "where caches lie; none: the service's cache folder", path=True)
    cache_dir_text: str = _caching("cache", "where embeddings lie, in cache_dir")
    cache_dir_vae: str = _caching("", "where latents lie, in cache_dir", empty=True)
    vae_batch_size: AtLeastOne = _caching(4, "pictures that the VAE takes at once")
    vae_enable_tiling: bool = _caching(False, "let the VAE work in tiles, which needs less memory")
    vae_enable_slicing: bool = _caching(False, "let the VAE take one picture after the other")
    text_encoder_batch_size: AtLeastOne = _caching(1, "prompts that a text encoder takes at once")
    vae_cache_ondemand: bool = _caching(False, "make latents when they are first needed, not before training")
    vae_cache_disable: bool = _caching(False, "make latents each time, and keep none")
    text_cache_ondemand: bool = _caching(False, "make embeddings when they are first needed, not before training")
    text_cache_disable: bool = _caching(False, "make embeddings each time, and keep none")
    #: Whether a picture that can't be read ends the run; `extra_parameters.on_bad_row` says it for every engine.
    on_bad_row: OnBadRow = field(default="fail", metadata=INTERNAL)
