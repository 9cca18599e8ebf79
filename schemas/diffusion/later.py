"""Names that SimpleTuner's configurations have and this version does not: each with the values that ask for nothing."""

from collections.abc import Mapping
from typing import Any, Final

_OFF: Final = (False, None)
_UNSET: Final = (None, "")
#: Of hints: how much is read or written at once changes no result, and each number asks for nothing.
_ANY: Final = (None, range(1, 1 << 31))

#: Options of a run.
OPTIONS: Final[Mapping[str, tuple[Any, ...]]] = {
    **dict.fromkeys(
        (
            *("controlnet", "control", "fuse_qkv_projections", "train_text_encoder", "quantize_activations"),
            *("lr_scale", "lr_scale_sqrt", "enable_group_offload", "offload_during_startup", "fsdp_enable"),
            *("push_to_hub", "push_checkpoints_to_hub", "push_to_hub_background", "ignore_missing_files"),
            *("delete_problematic_images", "delete_unwanted_images", "keep_vae_loaded"),
            *("preserve_data_backend_cache", "override_dataset_config"),
        ),
        _OFF,
    ),
    **dict.fromkeys(
        (
            *("text_encoder_lr", "init_lora", "init_lokr_norm", "max_grounding_entities", "tread_config"),
            *("distillation_method", "checkpoint_epoch_interval", "gradient_checkpointing_interval", "hub_model_id"),
            *("publishing_config", "modelspec_comment", "disk_low_threshold", "disk_low_script", "deepspeed_config"),
            *("dynamo_mode", "skip_file_discovery", "eval_dataset_id", "eval_steps_interval", "eval_epoch_interval"),
            *("accelerate_config", "accelerate_extra_args"),
        ),
        _UNSET,
    ),
    **dict.fromkeys((f"text_encoder_{n}_precision" for n in range(1, 5)), (None, "no_change")),
    "gradient_precision": (None, "unmodified"),
    "attention_mechanism": (None, "diffusers"),
    "gradient_checkpointing_backend": (None, "torch"),
    "dynamo_backend": (None, "no"),
    "checkpointing_rolling_steps": (None, 0),
    "checkpoints_rolling_total_limit": (None, 1),
    "masked_loss_probability": (None, 1),
    "snr_weight": (None, 1),
    "checkpointing_use_tempdir": (None, False, True),  # checkpoints are written beside and renamed anyway
    "model_card_private": (None, False, True),  # nothing is published
    "disk_low_action": (None, "stop"),
    "vae_cache_scan_behaviour": (None, "recreate"),
    "training_scheduler_timestep_spacing": (None, "trailing"),
    "write_batch_size": _ANY,
    "read_batch_size": _ANY,
    "image_processing_batch_size": _ANY,
    "compress_disk_cache": (None, True),
    "metadata_update_interval": _ANY,
    "num_eval_images": (None, 4),
    "eval_timesteps": (None, 28),
    "evaluation_type": (None, "none"),
    "validation_no_cfg_until_timestep": (None, 2),
}
#: Those of which every number is taken.
HINTS: Final = frozenset(name for name, nothing in OPTIONS.items() if nothing is _ANY)
#: Beginnings of names of which none is in this version.
FAMILIES_OF_OPTIONS: Final = (
    *("fsdp_", "group_offload_", "ramtorch", "musubi_", "crepa_", "layersync_", "twinflow_", "xm_", "nextlat_"),
    *("scheduled_sampling_", "validation_adapter_", "context_parallel_"),
)
#: Fields of an entry of the dataloader file.
ENTRIES: Final[Mapping[str, tuple[Any, ...]]] = {
    **dict.fromkeys(
        (
            *("is_regularisation_data", "is_regularization_data", "vae_cache_clear_each_epoch"),
            *("preserve_data_backend_cache", "delete_unwanted_images", "delete_problematic_images"),
        ),
        _OFF,
    ),
    "caption_shuffle": (None, {}, {"enable": False}),
    "caption_filter_list": (None, "", []),
    "conditioning": (None, []),
    "skip_file_discovery": _UNSET,
    "disable_validation": (None, False, True),  # each file is looked at once, when the run begins
    "hash_filenames": (None, False, True),  # names in a cache are made from what is in the files
    "metadata_update_interval": _ANY,
    "write_batch_size": _ANY,
    "timestep_sampling_offset": (None, 0),
    **dict.fromkeys(
        (
            *("video", "parquet", "huggingface", "dataset_name", "csv_file", "csv_caption_column", "csv_url_column"),
            *("aws_bucket_name", "aws_region_name", "aws_endpoint_url", "aws_access_key_id", "aws_secret_access_key"),
            *("aws_session_token", "aws_data_prefix"),
        ),
        (None, "", {}),
    ),
}
