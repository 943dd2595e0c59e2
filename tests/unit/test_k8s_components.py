"""Components that an overlay may take: logs beside each Ray, and alerts of series that are there."""

from __future__ import annotations

import re
from typing import Any

import yaml
from k8s_overlays import ROOT, Object, of_kind, pod_templates

from frpipe.runtime.telemetry import METRICS

WITH = "cpu+logs+alerts"
EXPORTED = {series for name, metric in METRICS.items() for series in metric.exported(name)}
# What kube-state-metrics and the kubelet export, as their documentation names it.
OF_OTHERS = {
    "kube_job_failed",
    "kube_job_created",
    "kube_cronjob_created",
    "kube_cronjob_status_last_successful_time",
    "kube_cronjob_spec_suspend",
    "kube_pod_container_resource_limits",
    "container_memory_working_set_bytes",
}
WORDS = {"sum", "max", "count", "by", "on", "and", "or", "time", "increase", "max_over_time", "offset", "h"}


def _rules() -> list[Object]:
    (rule,) = of_kind(WITH, "PrometheusRule").values()
    assert set(rule) == {"apiVersion", "kind", "metadata", "spec"}
    assert set(rule["spec"]) == {"groups"}
    (group,) = rule["spec"]["groups"]
    assert set(group) == {"name", "rules"}
    found: list[Object] = group["rules"]
    return found


def test_alerts_have_the_form_that_the_operator_takes() -> None:
    rules = _rules()
    names = [rule["alert"] for rule in rules]
    assert len(set(names)) == len(names)
    for rule in rules:
        assert {"alert", "expr", "labels", "annotations"} <= set(rule) <= {
            "alert", "expr", "for", "labels", "annotations",
        }  # fmt: skip
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert re.fullmatch(r"\d+m", rule.get("for", "1m"))
        assert rule["expr"].count("(") == rule["expr"].count(")")
        assert rule["expr"].count("{") == rule["expr"].count("}")


def test_alerts_ask_for_series_that_are_there() -> None:
    asked = {
        word
        for rule in _rules()
        for word in re.findall(
            r"[a-z_]\w+", re.sub(r"\{.*?\}|\[.*?\]|by \(.*?\)|on \(.*?\)", "", rule["expr"])
        )
    } - WORDS
    ours = {series for series in asked if series.startswith("ray_")}
    assert ours
    assert ours <= EXPORTED
    assert asked - ours == OF_OTHERS


def test_alerts_filter_by_values_that_exist() -> None:
    for rule in _rules():
        filters = re.findall(r"ray_(frpipe_\w+?)(?:_total|_count|_sum)\{([^}]*)\}", rule["expr"])
        for series, given in filters:
            for name, value in re.findall(r'(\w+)="([^"]+)"', given):
                assert value in METRICS[series].labels[name], rule["alert"]


def test_the_page_names_every_alert() -> None:
    page = (ROOT / "docs/observability.md").read_text(encoding="utf-8")
    assert all(f"`{rule['alert']}`" in page for rule in _rules())


def test_the_monitor_finds_the_port_of_every_ray() -> None:
    (monitor,) = of_kind(WITH, "PodMonitor").values()
    assert set(monitor["spec"]) == {"selector", "podMetricsEndpoints"}
    ports = [each["port"] for each in monitor["spec"]["podMetricsEndpoints"]]
    for name, template in _ray_pods():
        there = {port["name"] for port in template["spec"]["containers"][0].get("ports", [])}
        assert set(ports) <= there, name


def test_every_ray_has_its_logs_read() -> None:
    for name, template in _ray_pods():
        ray, logs = template["spec"]["containers"]
        assert (ray["name"].startswith("ray-"), logs["name"]) == (True, "ray-logs"), name
        mounts = {mount["mountPath"]: mount for mount in logs["volumeMounts"]}
        assert all(mount["readOnly"] for mount in mounts.values()), name
        theirs = {mount["name"] for mount in ray["volumeMounts"] if mount["mountPath"] == "/tmp"}
        assert {mounts["/tmp"]["name"]} == theirs, name
        assert re.search(r"@sha256:SET-THE-DIGEST", logs["image"]), name


def test_the_log_collector_reads_the_files_of_a_session() -> None:
    config = yaml.safe_load((ROOT / "k8s/components/logs/fluent-bit.yaml").read_text())
    (source,), (sink,) = config["pipeline"]["inputs"], config["pipeline"]["outputs"]
    places = source["path"].split(",")
    assert {place.rpartition(".")[2] for place in places} == {"log", "err", "out"}
    assert all(place.startswith("/tmp/ray/session_*/logs/") for place in places)
    assert sink["name"] == "stdout"


def _ray_pods() -> list[tuple[str, Any]]:
    return [
        (name, template) for name, template in pod_templates(WITH) if name.endswith((" head", " workers"))
    ]
