"""The manifests: what the API server would refuse, and what it would let through to our harm."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from k8s_overlays import OVERLAYS, ROOT, Object, built, of_kind, pod_templates, quantity, workers_of

from frpipe.core.config import load_config
from frpipe.core.night_config import load_night
from frpipe.runtime.allocation import Node, allocate, allocate_one

KUBERNETES = "1.34"
# Kinds of operators, which Kubernetes' own schemas do not know.
CUSTOM = ("ray.io/v1", "monitoring.coreos.com/v1")
JOBS = {"enroll", "consolidate", "identify", "dedup", "verify", "metrics", "nightly"}
# A node's own processes take some of it: less than a tenth on the usual ones of 16 CPUs and 64 GiB.
ALLOCATABLE = 0.9

# The same without Python's part in it: seconds for KubeRay's definitions.
SAFE = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

UNSET = "sha256:SET-THE-DIGEST-OF-THE-IMAGE"
LAUNCH_NO_DIGEST = re.compile(r'^NO_DIGEST = "SET-THE-DIGEST"$', re.MULTILINE)

every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


@pytest.fixture(scope="module")
def ray_job_schema(shared: Path) -> Any:
    """KubeRay's schema of a RayJob, in which a field that it does not know is an error."""
    path = shared / "k8s/ray.io_rayjobs.yaml"
    if not path.exists():
        pytest.skip("KubeRay's resource definitions (../shared/k8s) are not on this machine")
    versions = yaml.load(path.read_text(), SAFE)["spec"]["versions"]
    schema = next(v["schema"]["openAPIV3Schema"] for v in versions if v["name"] == "v1")
    schema["properties"]["metadata"] = {"type": "object"}
    _close(schema)
    return jsonschema.Draft202012Validator(schema)


def _close(schema: Any) -> None:
    if isinstance(schema, list):
        for each in schema:
            _close(each)
    elif isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            schema.setdefault("additionalProperties", False)
        for each in schema.values():
            _close(each)


# what an API server checks


@every_overlay
def test_kubernetes_accepts_its_own_kinds_and_every_pod(overlay: str) -> None:
    for each in built(overlay):
        if each["apiVersion"] not in CUSTOM:
            kubernetes_validate.validate(each, KUBERNETES, strict=True)
    for template in {str(template): template for _, template in pod_templates(overlay)}.values():
        pod = {"apiVersion": "v1", "kind": "Pod", **template}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


@every_overlay
def test_kuberay_accepts_every_job(overlay: str, ray_job_schema: Any) -> None:
    jobs = of_kind(overlay, "RayJob")
    assert set(jobs) == JOBS
    for name, job in jobs.items():
        assert not [error.message for error in ray_job_schema.iter_errors(job)], name


def test_a_field_that_kuberay_does_not_know_is_noticed(ray_job_schema: Any) -> None:
    job = yaml.safe_load(yaml.safe_dump(of_kind("cpu", "RayJob")["enroll"]))
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["comand"] = ["x"]
    assert list(ray_job_schema.iter_errors(job))


# what it does not check


@every_overlay
def test_the_security_profile_restricted_holds_with_a_read_only_root(overlay: str) -> None:
    labels = of_kind(overlay, "Namespace")["frpipe"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for name, template in pod_templates(overlay):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert {tuple(set(v) - {"name"}) for v in spec.get("volumes", [])} <= {
            ("emptyDir",),
            ("configMap",),
            ("secret",),
        }
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name


@every_overlay
def test_every_container_has_bounds_and_every_pod_fits_its_node(overlay: str) -> None:
    for name, template in pod_templates(overlay):
        for container in template["spec"]["containers"]:
            requests, limits = container["resources"]["requests"], container["resources"]["limits"]
            assert set(requests) == set(limits) >= {"cpu", "memory", "ephemeral-storage"}, name
            # One container of a Ray pod that may take more than it asks for, and none is guaranteed anything.
            bounds = ("memory", "ephemeral-storage") if name == "nightly" else tuple(limits)
            for bound in bounds:
                assert requests[bound] == limits[bound], name
    for name, job in of_kind(overlay, "RayJob").items():
        for group in workers_of(job):
            shape = group["template"]["metadata"]["annotations"]["frpipe/node-shape"]
            cpus, memory = re.fullmatch(r"(\d+) CPU, (\d+Gi)(?:, \d GPU)?", shape).groups()  # type: ignore[union-attr]
            asked = group["template"]["spec"]["containers"][0]["resources"]["requests"]
            assert quantity(asked["cpu"]) <= float(cpus) - 1, name
            assert quantity(asked["memory"]) <= ALLOCATABLE * quantity(memory), name


@every_overlay
def test_scratch_and_the_object_store_fit_what_their_container_may_take(overlay: str) -> None:
    for name, job in of_kind(overlay, "RayJob").items():
        cluster = job["spec"]["rayClusterSpec"]
        for group in (cluster["headGroupSpec"], *workers_of(job)):
            spec = group["template"]["spec"]
            limits = spec["containers"][0]["resources"]["limits"]
            volumes = {volume["name"]: volume.get("emptyDir", {}) for volume in spec["volumes"]}
            shm = quantity(volumes["shm"]["sizeLimit"])
            assert volumes["shm"]["medium"] == "Memory"
            assert float(group["rayStartParams"]["object-store-memory"]) < shm, name
            assert shm <= quantity(limits["memory"]) / 2, name
            scratch = quantity(volumes["scratch"]["sizeLimit"])
            assert scratch <= quantity(limits["ephemeral-storage"]), name
            paths = {mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
            assert {"/tmp", "/dev/shm"} <= paths


@every_overlay
def test_images_are_of_one_version_and_never_latest(overlay: str) -> None:
    images = {
        c["image"]
        for _, template in pod_templates(overlay)
        for c in template["spec"]["containers"]
        if c["name"] != "ray-logs"
    }
    (image,) = images
    # Somebody else's cluster gets the image by digest alone; until it is set no kubelet takes the name.
    assert image == "frpipe:dev" if overlay == "local" else image.partition("@")[2] == UNSET
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", UNSET) is None
    assert LAUNCH_NO_DIGEST.search((ROOT / "k8s/base/launch.py").read_text())


@every_overlay
def test_what_is_applied_runs_nothing(overlay: str) -> None:
    assert all(job["spec"]["suspend"] is True for job in of_kind(overlay, "RayJob").values())
    crons = of_kind(overlay, "CronJob")
    assert {name: cron["spec"]["suspend"] for name, cron in crons.items()} == {"nightly": True}
    page = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")
    assert """patch cronjob nightly -p '{"spec":{"suspend":false}}'""" in page
    running = {each["kind"] for each in built(overlay)} & {"Pod", "Job", "Deployment", "DaemonSet"}
    assert not running


@every_overlay
def test_work_gives_way_and_heads_stay(overlay: str) -> None:
    classes = of_kind(overlay, "PriorityClass")
    assert classes["frpipe-worker"]["value"] < classes["frpipe-head"]["value"] <= 0
    assert {each["preemptionPolicy"] for each in classes.values()} == {"Never"}
    for name, template in pod_templates(overlay):
        is_worker = name.endswith(" workers")
        wanted = "frpipe-worker" if is_worker else "frpipe-head"
        assert template["spec"]["priorityClassName"] == wanted, name
        spread = template["spec"].get("topologySpreadConstraints", [])
        assert [each["topologyKey"] for each in spread] == ["kubernetes.io/hostname"] * is_worker, name
        assert all(each["matchLabelKeys"] == ["ray.io/cluster"] for each in spread), name
    budgets = of_kind(overlay, "PodDisruptionBudget")
    assert {budget["spec"]["minAvailable"] for budget in budgets.values()} == {1000}
    selected = [budget["spec"]["selector"]["matchLabels"] for budget in budgets.values()]
    assert {"ray.io/node-type": "head"} in selected
    assert {"app.kubernetes.io/component": "launcher"} in selected


@every_overlay
def test_a_private_registry_is_asked_with_its_secret(overlay: str) -> None:
    for account in of_kind(overlay, "ServiceAccount").values():
        assert account["imagePullSecrets"] == [{"name": "frpipe-registry"}]


@every_overlay
def test_ray_is_the_version_that_the_tests_pass_with(overlay: str) -> None:
    pinned = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    for job in of_kind(overlay, "RayJob").values():
        assert job["spec"]["rayClusterSpec"]["rayVersion"] == pinned.group(1)


@every_overlay
def test_no_secret_is_in_the_manifests(overlay: str) -> None:
    assert not of_kind(overlay, "Secret")
    for name, template in pod_templates(overlay):
        for container in template["spec"]["containers"]:
            for variable in container.get("env", []):
                secretive = re.search(r"KEY$|SECRET|TOKEN|PASSWORD", variable["name"])
                assert not (secretive and "value" in variable), name
    for secret in yaml.safe_load_all((ROOT / "k8s/secrets.example.yaml").read_text()):
        assert set(secret["stringData"].values()) == {"REPLACE"}


@every_overlay
def test_the_head_does_no_work_and_asks_for_a_token(overlay: str) -> None:
    for name, job in of_kind(overlay, "RayJob").items():
        cluster = job["spec"]["rayClusterSpec"]
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0", name
        assert cluster["authOptions"] == {"mode": "token"}, name


@every_overlay
def test_every_job_ends_and_takes_its_cluster_with_it(overlay: str) -> None:
    for name, job in of_kind(overlay, "RayJob").items():
        spec = job["spec"]
        assert spec["suspend"] is True, f"{name} would start when it is applied"
        assert spec["shutdownAfterJobFinishes"] is True, name
        assert 0 < spec["ttlSecondsAfterFinished"] <= 3600, name
        assert 0 < spec["preRunningDeadlineSeconds"] < spec["activeDeadlineSeconds"], name
        assert spec["backoffLimit"] == 0, f"{name}: KubeRay would try again whatever the exit code"
        for group in workers_of(job):
            assert group["replicas"] == group["minReplicas"] == group["maxReplicas"], name


@every_overlay
def test_only_what_is_named_may_talk(overlay: str) -> None:
    policies = of_kind(overlay, "NetworkPolicy")
    deny = policies["default-deny"]["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    (head,) = policies["head"]["spec"]["ingress"]
    namespace, operator = head["from"]
    assert namespace == {"podSelector": {"matchLabels": {"app.kubernetes.io/component": "submitter"}}}
    assert head["ports"] == [{"protocol": "TCP", "port": 8265}]
    # All other ports of Ray: for its own pods alone.
    for name, policy in policies.items():
        for rule in policy["spec"].get("ingress", []):
            ports = {port["port"] for port in rule.get("ports", [])}
            assert ports <= {8265, 8080, 8333}, name
            assert ports or rule["from"] == [
                {"podSelector": {"matchLabels": {"ray.io/is-ray-node": "yes"}}}
            ], name
    assert operator["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "kuberay-operator"}
    blocks = [
        to["ipBlock"]
        for policy in policies.values()
        for rule in policy["spec"].get("egress", [])
        for to in rule["to"]
        if "ipBlock" in to
    ]
    assert all("169.254.0.0/16" in block["except"] for block in blocks)


@every_overlay
def test_the_launcher_may_start_jobs_and_nothing_else(overlay: str) -> None:
    (role,) = of_kind(overlay, "Role").values()
    assert role["rules"] == [{"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create", "get"]}]
    assert not of_kind(overlay, "ClusterRole")
    for name, template in pod_templates(overlay):
        may = template["spec"]["serviceAccountName"] == "frpipe-launcher"
        assert template["spec"]["automountServiceAccountToken"] is may, name
        assert may == (name == "nightly"), name


# what our own code says


@every_overlay
def test_the_settings_are_valid_and_their_pools_fit_the_cluster(overlay: str, tmp_path: Path) -> None:
    configs = of_kind(overlay, "ConfigMap")
    data = next(c["data"] for name, c in configs.items() if name.startswith("frpipe-config-"))
    for name, text in data.items():
        (tmp_path / name).write_text(text)
    enroll, night = load_config(str(tmp_path / "enroll.yaml"), []), load_night(tmp_path / "nightly.yaml")
    nodes = _nodes(of_kind(overlay, "RayJob")["enroll"])
    for config in (enroll, night.settings):
        assert config.storage.roots
        assert allocate(config.resources, nodes)
    assert night.settings == enroll
    assert allocate_one("search", None, nodes).workers >= 1


def _nodes(job: Object) -> list[Node]:
    """What Ray will find: KubeRay starts it with the limits of each container."""
    found = [Node(0.0)]
    for group in workers_of(job):
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        node = Node(quantity(limits["cpu"]), quantity(limits.get("nvidia.com/gpu", "0")))
        found += [node] * group["replicas"]
    return found


@every_overlay
def test_generated_names_reach_every_pod(overlay: str) -> None:
    made = set(of_kind(overlay, "ConfigMap"))
    used = {
        volume["configMap"]["name"]
        for _, template in pod_templates(overlay)
        for volume in template["spec"].get("volumes", [])
        if "configMap" in volume
    }
    assert used == made


def test_spot_workers_tolerate_their_nodes_and_heads_avoid_them() -> None:
    for name, job in of_kind("spot", "RayJob").items():
        head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
        terms = head["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert terms["nodeSelectorTerms"][0]["matchExpressions"][0]["operator"] == "NotIn", name
        for group in workers_of(job):
            spec = group["template"]["spec"]
            assert spec["tolerations"], name
            assert spec["nodeSelector"], name


def test_the_image_is_made_for_another_user_than_root() -> None:
    text = (ROOT / "k8s/docker/Dockerfile").read_text()
    users = re.findall(r"^USER (.*)$", text, re.MULTILINE)
    assert users == ["1000:1000"]
    for source in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE):
        assert all((ROOT / path).exists() for path in source.split()), source
    kept = (ROOT / "k8s/docker/Dockerfile.dockerignore").read_text().split()
    assert kept[0] == "*"
    copied = {
        path for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE) for path in line.split()
    }
    assert {path.removeprefix("!") for path in kept if path.startswith("!")} == copied
