"""Everything that a user writes in YAML, as strict pydantic models.

Config objects stop at the door: commands turn them into plain arguments.
"""

from seft_bench.config.by_name import config_folder, load_judge, load_matrix, load_suite, server_config, shipped
from seft_bench.config.data import (
    ROLES,
    TINYWORLD,
    AnyData,
    DataConfig,
    Role,
    SourceConfig,
    data_label,
    data_row,
    tinyworld_settings,
    with_contaminated,
)
from seft_bench.config.engines import EngineName, VLLMConfig
from seft_bench.config.judges import (
    GradedAnswersConfig,
    JudgeConfig,
    LocalJudgeConfig,
    OpenAIJudgeConfig,
    ReplayJudgeConfig,
    RewardModelJudgeConfig,
    RubricJudgeConfig,
    TransformersJudgeConfig,
    VLLMJudgeConfig,
)
from seft_bench.config.loading import Strict, load_yaml, read_yaml, validate, with_overrides
from seft_bench.config.matrices import CompareConfig, MatrixConfig, MatrixRow, RecipeConfig
from seft_bench.config.servers import ServedModelConfig, ServerSettings
from seft_bench.config.suites import DecodingConfig, SuiteConfig
from seft_bench.config.tinyworld import TASK_TYPES, TinyworldConfig, TinyworldSettings

__all__ = [
    "ROLES",
    "TASK_TYPES",
    "TINYWORLD",
    "AnyData",
    "CompareConfig",
    "DataConfig",
    "DecodingConfig",
    "EngineName",
    "GradedAnswersConfig",
    "JudgeConfig",
    "LocalJudgeConfig",
    "MatrixConfig",
    "MatrixRow",
    "OpenAIJudgeConfig",
    "RecipeConfig",
    "ReplayJudgeConfig",
    "RewardModelJudgeConfig",
    "Role",
    "RubricJudgeConfig",
    "ServedModelConfig",
    "ServerSettings",
    "SourceConfig",
    "Strict",
    "SuiteConfig",
    "TinyworldConfig",
    "TinyworldSettings",
    "TransformersJudgeConfig",
    "VLLMConfig",
    "VLLMJudgeConfig",
    "config_folder",
    "data_label",
    "data_row",
    "load_judge",
    "load_matrix",
    "load_suite",
    "load_yaml",
    "read_yaml",
    "server_config",
    "shipped",
    "tinyworld_settings",
    "validate",
    "with_contaminated",
    "with_overrides",
]
