"""YAML as configurations are written in: plain values, each key once, and one line on what is wrong."""

from __future__ import annotations

from typing import Any

import yaml
import yaml.composer


class YAMLTextError(ValueError):
    """It is no such text; one line that says what is wrong and, where that is known, in which line."""


def read_yaml(text: str) -> Any:
    """The value that a text stands for.

    Raises:
        YAMLTextError: It is not YAML, a key stands twice in a mapping, or a value cannot be.
    """
    try:
        return yaml.load(text, _PlainLoader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark is not None else ""
        problem = ", ".join(filter(None, (error.context, error.problem)))
        raise YAMLTextError(f"{line}{' '.join(problem.split())}") from None
    except RecursionError:
        raise YAMLTextError("its brackets are too deep") from None
    except (yaml.YAMLError, ValueError) as error:  # a ValueError is a date or a number that cannot be
        raise YAMLTextError(" ".join(str(error).split())) from None
    except (AttributeError, LookupError):  # of PyYAML's own functions for tags such as `!!bool`
        raise YAMLTextError("a value is not of the kind that its tag says") from None


class _PlainLoader(yaml.SafeLoader):
    """PyYAML's own would let the last of several equal keys win without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], yaml.Mark] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                earlier = first.setdefault((key.tag, key.value), key.start_mark)
                if earlier is not key.start_mark:
                    problem = f"key {key.value!r} is there already, in line {earlier.line + 1}; allowed is once"
                    raise yaml.composer.ComposerError(problem=problem, problem_mark=key.start_mark)
        return node
