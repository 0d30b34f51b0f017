"""The templates in `deploy`: what their readers' schemas know, of what is there, for as many GPUs as the run takes."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from rl.config import load_config
from rl.instruments.planning.gpu_placement import place
from rl.workers.ray_cluster import kinds_of_workers
from tests.fixtures.runs import ROOT

DEPLOY = ROOT / "deploy"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, each with its words."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(kind, " ".join(words.split())) for kind, words in lines]


def of_kind(wanted: str) -> list[str]:
    return [words for kind, words in instructions() if kind == wanted]


def test_the_image_has_all_that_is_installed_and_run() -> None:
    known = {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "ENTRYPOINT", "CMD"}
    assert {kind for kind, _ in instructions()} == known and instructions()[0][0] == "FROM"
    copied = {source for words in of_kind("COPY") for source in words.split()[:-1]}
    assert all((ROOT / source).exists() for source in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {pattern.rstrip("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    files = {project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml", "Makefile"}
    assert packages | files | {"configs", "requirements"} <= copied
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    assert copied.isdisjoint(ignored) and ".venv" in ignored
    *_, last = of_kind("RUN")
    assert last == "make setup EXTRA=gpu", "after the code has come"
    # `sieve doctor` would miss them.
    assert {"gcc", "python3-dev"} <= {*of_kind("RUN")[0].split()}
    for words in of_kind("RUN"):
        assert all(shlex.split(part) for part in words.split("&&"))


def test_the_image_has_the_release_of_cuda_that_pytorch_is_built_for() -> None:
    """And CUDA's driver is the host's."""
    (base,) = of_kind("FROM")
    release = re.fullmatch(r"nvidia/cuda:(\d+)\.\d+\.\d+-runtime-ubuntu24\.04", base)
    pins = (ROOT / "requirements" / "gpu.txt").read_text()
    assert release and f"nvidia-cudnn-cu{release[1]}==" in pins


def test_ray_knows_the_keys_of_its_clusters_file(tmp_path: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((DEPLOY / "ray_cluster.yaml").read_text())
    prepared = prepare_config(config)
    validate_config(prepared)
    assert prepared["max_workers"] == len(config["provider"]["worker_ips"]) == 1
    with pytest.raises(Exception, match="no_such_key"):
        validate_config(prepared | {"no_such_key": 1})


def rays_commands() -> Iterator[str]:
    """That are in the templates."""
    config = yaml.safe_load((DEPLOY / "ray_cluster.yaml").read_text())
    for when in ("head", "worker"):
        yield from config[f"{when}_start_ray_commands"]
    yield from re.findall(r"^#   (ray .*)$", (DEPLOY / "ray_cluster.yaml").read_text(), re.MULTILINE)
    *_, started = (DEPLOY / "sieve.sbatch").read_text().replace("\\\n", " ").splitlines()
    yield re.sub(r"\$\w+", "1", started)


@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")
@pytest.mark.parametrize("command", list(rays_commands()))
def test_ray_knows_its_commands(command: str) -> None:
    from ray.scripts.scripts import cli

    words = shlex.split(command)
    start = next(place for place, word in enumerate(words) if Path(word).name == "ray")
    name, *rest = words[start + 1 :]
    context = cli.commands[name].make_context(name, rest)
    left = context.params.get("ray_args_and_entrypoint", ())  # of `symmetric-run`, which refuses no word itself
    assert not [word for word in left[:1] if word.startswith("-")]


POD = {"containers", "volumes"}
CONTAINER = {"name", "image", "resources", "volumeMounts"}
# Of what KubeRay's v1 types have (ray-operator/apis/ray/v1): Kubernetes refuses all else.
JOB = {"entrypoint", "shutdownAfterJobFinishes", "rayClusterSpec"}
CLUSTER = {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
HEAD = {"rayStartParams", "template"}
GROUP = HEAD | {"groupName", "replicas", "minReplicas", "maxReplicas"}


def pods(cluster: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Of KubeRay's cluster: how many, and what each is."""
    assert cluster["headGroupSpec"].keys() == HEAD
    yield 1, cluster["headGroupSpec"]["template"]["spec"]
    for group in cluster["workerGroupSpecs"]:
        assert group.keys() == GROUP
        assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]
        yield group["replicas"], group["template"]["spec"]


def test_kuberays_pods_have_the_gpus_that_the_run_takes() -> None:
    job = yaml.safe_load((DEPLOY / "kuberay_job.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert (job["spec"].keys(), cluster.keys()) == (JOB, CLUSTER)
    assert cluster["rayVersion"] == version("ray")
    gpus = []
    for number, pod in pods(cluster):
        (container,) = pod["containers"]
        assert (pod.keys(), container.keys()) == (POD, CONTAINER)
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounted.keys() == {volume["name"] for volume in pod["volumes"]}
        assert mounted["memory"] == "/dev/shm"
        sizes = container["resources"]
        assert sizes["requests"] == sizes["limits"], "else a neighbour's memory is in the way"
        gpus += [int(sizes["limits"]["nvidia.com/gpu"])] * number
    (_, _, inside) = shlex.split(job["spec"]["entrypoint"])
    config = load_config(ROOT / Path(inside.split()[-1]).relative_to("/sieve"))
    placed = place(config, gpus[0])
    assert len(placed) == sum(gpus) and {gpu.node for gpu in placed} == {*range(len(gpus))}


def test_slurms_nodes_have_what_the_run_takes() -> None:
    text = (DEPLOY / "sieve.sbatch").read_text()
    (directives,) = re.findall(r"^#SBATCH (.*)$", text, re.MULTILINE)
    asked = dict(re.findall(r"--([a-z-]+)=(\S+)", directives))
    assert asked["ntasks-per-node"] == "1", "Ray is started once on each"
    (named,) = re.findall(r"^#   sbatch deploy/sieve.sbatch (\S+)", text, re.MULTILINE)
    config, gpus = load_config(ROOT / named), int(asked["gpus-per-node"])
    placed = place(config, gpus)
    assert len(placed) == int(asked["nodes"]) * gpus == (placed[-1].node + 1) * gpus
    assert sum(kind.number * kind.num_cpus for kind in kinds_of_workers(config)) <= int(asked["cpus-per-task"])
