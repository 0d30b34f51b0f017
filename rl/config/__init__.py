"""What an experiment is: `Config` composes the sections, `load_config` reads one."""

from rl.config.experiment import Config
from rl.config.reading import load_config, load_section, save_config

__all__ = ["Config", "load_config", "load_section", "save_config"]
