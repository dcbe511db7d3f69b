"""Manifests are what Kubernetes and KubeRay take, and no pod may do more than it needs."""

import copy
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from lamella.pipeline.jobs.settings import load_job
from lamella.schemas.job import JobConfig
from tests.deploy.manifests import (
    BUILDS,
    KUBERNETES,
    ROOT,
    SHARED,
    Manifest,
    all_pods,
    built,
    of_kind,
    pod_templates,
    settings,
    size_bytes,
    written,
)

VERSIONS = ["1.31", "1.34"]
"""podFailurePolicy is stable since 1.31."""

WORKER_BYTES = 1.8e9
"""What `lamella plan` says of a worker, 1.4 to 1.6 GB, with some room; test_commands.py asks it."""

PLAIN = [each for each in written() if not each["apiVersion"].startswith("ray.io/")]
PODS = all_pods()


def schema_of(kind: str) -> Manifest:
    """Return KubeRay's schema of a kind, with unknown keys forbidden."""
    path = SHARED / "kuberay_crds" / f"ray.io_{kind.lower()}s.yaml"
    if not path.exists():
        pytest.skip(f"KubeRay's schemas are not at {path.parent}; LAMELLA_SHARED names the folder")
    versions = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)["spec"]["versions"]
    (found,) = (each for each in versions if each["name"] == "v1")
    return closed(found["schema"]["openAPIV3Schema"])


def closed(schema: Any) -> Any:
    """Return a schema that forbids the keys that it does not name."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(each) for name, each in schema.items()}
    if "properties" in schema and isinstance(schema["properties"], dict):
        free = schema.get("x-kubernetes-preserve-unknown-fields")
        if not free and "additionalProperties" not in schema and schema.get("type") == "object":
            made["additionalProperties"] = False
    return made


def faults(manifest: Manifest, schema: Manifest) -> list[str]:
    given = {name: value for name, value in manifest.items() if name != "metadata"}
    found = Draft202012Validator(schema).iter_errors(given)
    return [f"{error.json_path}: {error.message}" for error in found]


def ray_manifests() -> Iterator[Manifest]:
    for folder in BUILDS:
        yield from of_kind(built(folder), "RayJob")
        yield from of_kind(built(folder), "RayCluster")


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_kuberay_knows_every_key(kind: str) -> None:
    schema = schema_of(kind)
    schema["properties"].pop("metadata")
    found = list(of_kind(written(), kind))
    found += [each for each in ray_manifests() if each["kind"] == kind]
    assert len(found) > 1
    for manifest in found:
        assert faults(manifest, schema) == [], manifest["metadata"]["name"]
    # The check itself: a wrong key and a wrong type are seen.
    wrong = copy.deepcopy(found[0])
    wrong["spec"]["enableAutoscaling"] = True
    cluster = wrong["spec"] if kind == "RayCluster" else wrong["spec"]["rayClusterSpec"]
    cluster["workerGroupSpecs"][0]["maxReplicas"] = "8"
    assert len(faults(wrong, schema)) == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_key(version: str) -> None:
    for manifest in PLAIN:
        kubernetes_validate.validate(manifest, version, strict=True)
    wrong = copy.deepcopy(next(of_kind(written(), "CronJob")))
    wrong["spec"]["concurrency"] = "Forbid"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_key_of_the_pods_that_kuberay_makes(version: str) -> None:
    pods = [each for manifest in ray_manifests() for _, each in pod_templates(manifest)]
    assert pods
    for template in pods:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}}
        kubernetes_validate.validate(pod | {"spec": template["spec"]}, version, strict=True)


@pytest.mark.parametrize("folder", BUILDS)
def test_kustomize_builds_what_a_person_applies(folder: str) -> None:
    manifests = built(folder)
    names = [(each["kind"], each["metadata"]["name"]) for each in manifests]
    assert len(set(names)) == len(names)
    assert ("RayJob" in dict(names)) == ("index" in folder or folder.startswith("jobs/"))
    if folder.startswith("overlays/"):
        assert {each["metadata"]["namespace"] for each in manifests} == {"lamella"}
        images = {
            container["image"]
            for manifest in manifests
            for _, template in pod_templates(manifest)
            for container in template["spec"]["containers"]
        } - {"prom/pushgateway:v1.11.1"}
        assert len(images) == 1  # one Python and one set of packages on all nodes of a cluster
        assert all(each.startswith("registry.example.org/lamella") for each in images)


def test_a_job_has_its_command_and_the_keys_of_its_role() -> None:
    for name, role in (("index", "indexer"), ("query", "reader"), ("evaluate", "reader")):
        (job,) = built(f"jobs/{name}")
        assert job["metadata"]["name"] == f"lamella-{name}"
        assert job["spec"]["entrypoint"].split()[:2] == ["lamella", name]
        secrets = {
            source["secretRef"]["name"]
            for _, template in pod_templates(job["spec"]["rayClusterSpec"])
            for container in template["spec"]["containers"]
            for source in container["envFrom"]
            if "secretRef" in source
        }
        assert secrets == {f"lamella-s3-{role}"}


def test_the_shell_that_reads_an_entrypoint_knows_its_variables() -> None:
    for name in ("index", "query", "evaluate"):
        (job,) = built(f"jobs/{name}")
        (submitter,) = job["spec"]["submitterPodTemplate"]["spec"]["containers"]
        assert submitter["envFrom"] == [{"configMapRef": {"name": "lamella-settings"}}]
        assert set(re.findall(r"\$(\w+)", job["spec"]["entrypoint"])) <= set(settings())


def test_a_job_ends_with_its_cluster() -> None:
    (job,) = of_kind(written(), "RayJob")
    spec = job["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0
    assert spec["activeDeadlineSeconds"] > 0
    assert spec["backoffLimit"] >= 1
    assert spec["submissionMode"] == "K8sJobMode"


def test_the_cluster_of_a_job_is_the_one_that_stands_but_for_its_first_worker() -> None:
    (cluster,) = of_kind(written(), "RayCluster")
    (job,) = of_kind(written(), "RayJob")
    standing, once = copy.deepcopy((cluster["spec"], job["spec"]["rayClusterSpec"]))
    sizes = []
    for spec in (standing, once):
        (group,) = spec["workerGroupSpecs"]
        sizes.append((group.pop("minReplicas"), group.pop("replicas")))
    assert sizes == [(0, 0), (1, 1)]
    assert standing == once


def clusters() -> list[Manifest]:
    found = [each["spec"] for each in of_kind(written(), "RayCluster")]
    return found + [each["spec"]["rayClusterSpec"] for each in of_kind(written(), "RayJob")]


@pytest.mark.parametrize("cluster", clusters())
def test_ray_asks_for_a_token_scales_and_is_the_version_of_the_image(cluster: Manifest) -> None:
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"] is True
    assert f"ray=={cluster['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()
    # Nothing of a picture is worked at beside the account that speaks to Kubernetes.
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in cluster["workerGroupSpecs"]:
        assert group["maxReplicas"] > group["minReplicas"]


def test_nothing_of_ray_is_open_to_the_outside() -> None:
    for manifest in (*written(), *(each for folder in BUILDS for each in built(folder))):
        if manifest["kind"] == "Service":
            assert manifest["spec"].get("type", "ClusterIP") == "ClusterIP"
        assert manifest["kind"] not in ("Ingress", "Gateway", "HTTPRoute")
    for cluster in clusters():
        assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
        assert not cluster["headGroupSpec"].get("enableIngress")
        for _, template in pod_templates(cluster):
            ports = [each for c in template["spec"]["containers"] for each in c["ports"]]
            assert not any("hostPort" in each for each in ports)


def ports_from_elsewhere(policy: Manifest) -> set[int]:
    """Return the ports that a policy opens to pods of other kinds."""
    opened: set[int] = set()
    for rule in policy["spec"].get("ingress", ()):
        chosen = [each.get("podSelector", {}).get("matchLabels", {}) for each in rule["from"]]
        if chosen != [{"lamella.io/ray": "true"}]:
            assert rule["ports"]
            assert all(chosen)  # each is a named kind of pod, and none is all pods
            opened |= {port["port"] for port in rule["ports"]}
    return opened


def test_policies_deny_all_and_open_three_ports() -> None:
    policies = {each["metadata"]["name"]: each for each in of_kind(written(), "NetworkPolicy")}
    denied = policies.pop("deny-all")["spec"]
    assert denied == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    opened = {name: ports_from_elsewhere(each) for name, each in policies.items()}
    assert {name: ports for name, ports in opened.items() if ports} == {
        "jobs-reach-ray": {8265},
        "prometheus-reads-ray": {8080},
        "push-gateway": {9091},
    }
    # The address of a cloud's keys is reached by nobody.
    for each in policies.values():
        for rule in each["spec"].get("egress", ()):
            for target in rule["to"]:
                if block := target.get("ipBlock"):
                    assert "169.254.0.0/16" in block["except"]


def test_every_selector_of_a_policy_or_service_finds_a_pod() -> None:
    labels = [template["metadata"]["labels"] for _, template in PODS]
    made = {"ray.io/node-type": "head"}  # by KubeRay
    for manifest in written():
        chosen = None
        if manifest["kind"] == "NetworkPolicy":
            chosen = manifest["spec"]["podSelector"].get("matchLabels", {})
        if manifest["kind"] == "Service":
            chosen = manifest["spec"]["selector"]
        if chosen is not None and chosen != made:
            assert any(chosen.items() <= each.items() for each in labels), manifest["metadata"]


@pytest.mark.parametrize(("name", "template"), PODS, ids=[name for name, _ in PODS])
def test_a_pod_is_restricted(name: str, template: Manifest) -> None:
    spec = template["spec"]
    pod = spec["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] >= 1000
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not any(spec.get(each) for each in ("hostNetwork", "hostPID", "hostIPC"))
    assert not any("hostPath" in volume for volume in spec.get("volumes", ()))
    assert spec["automountServiceAccountToken"] is ("headGroupSpec" in name)
    assert spec["serviceAccountName"] == ("lamella-head" if "headGroupSpec" in name else "lamella")
    for container in spec["containers"]:
        restricted(container)


@pytest.mark.parametrize("cluster", clusters())
def test_the_autoscaler_is_restricted(cluster: Manifest) -> None:
    restricted(cluster["autoscalerOptions"])


def restricted(container: Manifest) -> None:
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for figures in ("requests", "limits"):
        assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"][figures])


def test_keys_come_from_secrets_alone() -> None:
    assert not any("KEY" in name or "TOKEN" in name or "SECRET" in name for name in settings())
    for _, template in PODS:
        for container in template["spec"]["containers"]:
            for each in container.get("env", ()):
                if "TOKEN" in each["name"]:
                    assert each["valueFrom"]["secretKeyRef"]["name"]
    for manifest in written():
        assert manifest["kind"] != "Secret"


def test_health_is_asked_by_http() -> None:
    found = 0
    for cluster in clusters():
        for _, template in pod_templates(cluster):
            for container in template["spec"]["containers"]:
                for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                    assert container[probe]["httpGet"]["path"].endswith("_healthz")
                    found += 1
    assert found
    assert not any("wget" in path.read_text() for path in KUBERNETES.rglob("kustomization.yaml"))


@pytest.mark.parametrize("cronjob", list(of_kind(written(), "CronJob")), ids=lambda c: c["kind"])
def test_what_is_done_by_the_clock_runs_once_ends_and_heeds_exit_codes(cronjob: Manifest) -> None:
    spec, job = cronjob["spec"], cronjob["spec"]["jobTemplate"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["startingDeadlineSeconds"] >= 100  # fewer than 10 s would never start
    assert 1 <= spec["successfulJobsHistoryLimit"] <= spec["failedJobsHistoryLimit"]
    assert job["activeDeadlineSeconds"] < 24 * 3600
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # podFailurePolicy needs it
    assert job["template"]["spec"]["terminationGracePeriodSeconds"] > 20
    (container,) = job["template"]["spec"]["containers"]
    rules = job["podFailurePolicy"]["rules"]
    answers = {
        code: outcome_of(rules, container["name"], code) for code in (1, 2, 3, 4, 75, 137, 143)
    }
    assert answers == {
        **dict.fromkeys((2, 3, 4), "FailJob"),
        **dict.fromkeys((1, 75, 137, 143), "Count"),
    }
    assert outcome_of(rules, container["name"], 143, disrupted=True) == "Ignore"
    assert job["backoffLimit"] >= 1


def outcome_of(rules: list[Manifest], container: str, code: int, *, disrupted: bool = False) -> str:
    """Return the action of the first rule that fits, as Kubernetes does it."""
    for rule in rules:
        assert rule["action"] in ("FailJob", "Ignore", "Count")
        if exits := rule.get("onExitCodes"):
            assert exits["containerName"] == container
            assert exits["operator"] in ("In", "NotIn")
            if (code in exits["values"]) == (exits["operator"] == "In"):
                return str(rule["action"])
        elif disrupted and any(
            each["type"] == "DisruptionTarget" for each in rule["onPodConditions"]
        ):
            return str(rule["action"])
    return "Count"


@pytest.mark.parametrize(
    "path", sorted(KUBERNETES.rglob("job.toml")), ids=lambda p: str(p.relative_to(KUBERNETES))
)
def test_the_job_of_a_config_map_is_a_job(path: Any) -> None:
    job = load_job(path)
    assert isinstance(job, JobConfig)
    # Set, or a corpus that grows is cut anew each time it doubles.
    assert job.corpus.shard_images


def test_memory_and_scratch_hold_what_workers_take() -> None:
    """The planner's worker, for each thread a very large picture, and Ray itself."""
    ray_bytes = 0.7e9
    for folder, job_file in (
        ("overlays/example", "base/job.toml"),
        ("overlays/example-gpu", "overlays/example-gpu/job.toml"),
        ("overlays/example-index", "base/job.toml"),
        ("overlays/example-gpu-index", "overlays/example-gpu/job.toml"),
    ):
        job = load_job(KUBERNETES / job_file)
        found = [
            template
            for manifest in built(folder)
            for at, template in pod_templates(manifest)
            if "workerGroupSpecs" in at
        ]
        assert len(found) == 1
        (container,) = found[0]["spec"]["containers"]
        limits, requests = container["resources"]["limits"], container["resources"]["requests"]
        threads = int(requests["cpu"])
        assert threads == job.engine.cpus_per_worker
        # `reindex` starts a worker a CPU on a cluster that has none yet; a card has one worker.
        workers = 1 if "nvidia.com/gpu" in limits else threads
        needed = workers * WORKER_BYTES + threads * job.corpus.max_memory + ray_bytes
        assert size_bytes(limits["memory"]) >= needed
        assert limits["memory"] == requests["memory"]
        volumes = {each["name"]: each["emptyDir"] for each in found[0]["spec"]["volumes"]}
        assert size_bytes(volumes["shm"]["sizeLimit"]) >= 256 * 1024**2
        shards_bytes = 2 * (job.corpus.shard_images or 0) * 250e3
        cache_bytes = float(settings()["LAMELLA_CACHE_GB"]) * 1e9
        scratch_bytes = size_bytes(volumes["tmp"]["sizeLimit"])
        assert scratch_bytes >= cache_bytes + shards_bytes + 1e9
        assert size_bytes(requests["ephemeral-storage"]) >= scratch_bytes


def test_the_example_with_cards_is_the_other_with_a_card_each() -> None:
    base = tomllib.loads((KUBERNETES / "base/job.toml").read_text())
    cards = tomllib.loads((KUBERNETES / "overlays/example-gpu/job.toml").read_text())
    assert base["name"] == cards["name"]
    (cluster,) = of_kind(built("overlays/example-gpu"), "RayCluster")
    (group,) = cluster["spec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    for figures in ("requests", "limits"):
        assert container["resources"][figures]["nvidia.com/gpu"] == 1
