"""Alerts and the dashboard ask for what is measured, and a real Prometheus answers them."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.deploy import exporter
from tests.deploy.manifests import DEPLOY, ROOT, Manifest, of_kind, written
from tests.prometheus import asked, awaited, free_port, running

PROMETHEUS = DEPLOY / "prometheus"
ALERTS_TEST = Path(__file__).with_name("alerts_test.yml")
DASHBOARD: Manifest = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def tool(name: str) -> str:
    """Return the path of a program of Prometheus; skips where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: prometheus, prometheus-pushgateway)")
    return found


def alerts() -> list[Manifest]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> dict[str, str]:
    """Return every query of the alerts and of the dashboard, by who asks."""
    asked = {rule["alert"]: rule["expr"] for rule in alerts()}
    for panel in PANELS:
        for target in panel["targets"]:
            asked[f"{panel['title']} {target['refId']}"] = target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        asked[f"${variable['name']}"] = variable.get("definition", "")
    return asked


def promtool(*arguments: object) -> None:
    said = subprocess.run(
        [tool("promtool"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr


def test_rules_are_rules() -> None:
    promtool("check", "rules", PROMETHEUS / "alerts.yml")


@pytest.mark.parametrize("name", ["prometheus.yml", "compose.prometheus.yml"])
def test_a_configuration_is_one(name: str) -> None:
    promtool("check", "config", PROMETHEUS / name)


def test_alerts_fire_and_are_silent_as_they_should() -> None:
    promtool("test", "rules", ALERTS_TEST)


def test_every_alert_is_tried_both_firing_and_silent() -> None:
    fired: set[str] = set()
    silent: set[str] = set()
    for test in yaml.safe_load(ALERTS_TEST.read_text())["tests"]:
        for each in test["alert_rule_test"]:
            (fired if each["exp_alerts"] else silent).add(each["alertname"])
    names = {rule["alert"] for rule in alerts()}
    assert fired == names
    assert silent == names


def test_every_alert_says_what_is_wrong_and_where_to_read_on() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        text = (ROOT / page).read_text()
        headings = re.findall(r"^#+ (.*)$", text, flags=re.M)
        found = {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}
        assert not anchor or anchor in found


def test_only_metrics_that_exist_are_asked_for() -> None:
    names = {
        name: set(re.findall(r"\blamella_\w+", expression))
        for name, expression in expressions().items()
    }
    assert not {name for name, found in names.items() if found - exporter.NAMES}
    everything = set.union(*names.values())
    # And nothing is measured for nobody.
    sums = {f"{name}_{part}" for name in exporter.HISTOGRAMS for part in ("sum", "count")}
    assert everything >= exporter.NAMES - sums


def test_prometheus_finds_what_the_manifests_name() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    services = {each["metadata"]["name"]: each["spec"] for each in of_kind(written(), "Service")}
    (target,) = jobs["push"]["static_configs"][0]["targets"]
    assert target == f"lamella-push.lamella.svc:{services['lamella-push']['ports'][0]['port']}"
    assert jobs["push"]["honor_labels"] is True  # `job`, `command` and `store` are the job's own
    (found,) = jobs["ray"]["dns_sd_configs"]
    assert found["names"] == ["lamella-metrics.lamella.svc"]
    assert services["lamella-metrics"]["clusterIP"] == "None"
    assert found["port"] == services["lamella-metrics"]["ports"][0]["port"]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prometheus with the rules and the relabelling of deploy/, and a real gateway."""
    program, gateway_program = tool("prometheus"), tool("prometheus-pushgateway")
    folder = tmp_path_factory.mktemp("prometheus")
    gateway, port = (f"127.0.0.1:{free_port()}" for _ in range(2))
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    config["rule_files"] = [str(PROMETHEUS / "alerts.yml")]
    push, ray = config["scrape_configs"]
    push["static_configs"] = [{"targets": [gateway]}]
    del ray["dns_sd_configs"]
    with (
        exporter.serve("ray_") as scraped,
        running([gateway_program, f"--web.listen-address={gateway}"], f"http://{gateway}/-/ready"),
    ):
        exporter.push(f"http://{gateway}")
        ray["static_configs"] = [{"targets": [f"127.0.0.1:{scraped}"]}]
        path = folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(config))
        command = [program, f"--config.file={path}", f"--storage.tsdb.path={folder / 'data'}"]
        with running([*command, f"--web.listen-address={port}"], f"http://{port}/-/ready"):
            yield f"http://{port}"


def concrete(expression: str) -> str:
    """Return a panel's query as Grafana sends it."""
    return expression.replace("$__rate_interval", "5s").replace("$store", ".*")


@pytest.mark.slow
def test_prometheus_answers_every_panel(prometheus: str) -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            awaited(prometheus, concrete(target["expr"]))


def test_prometheus_has_every_metric_without_the_prefix_of_ray(prometheus: str) -> None:
    for name in sorted(exporter.NAMES):
        awaited(prometheus, name)
    assert asked(prometheus, '{__name__=~"ray_lamella_.*"}') == []


def test_what_is_pushed_keeps_the_labels_of_its_job(prometheus: str) -> None:
    ((labels, _),) = awaited(prometheus, "lamella_job_exit_code")
    own = {name: labels[name] for name in ("job", "command", "store")}
    assert own == {"job": "lamella", "command": "reindex", "store": "s3://index/photos"}


def test_a_job_that_needs_a_person_is_an_alert_at_once(prometheus: str) -> None:
    wanted = 'ALERTS{alertname="LamellaNeedsAPerson", alertstate="firing"}'
    ((labels, _),) = awaited(prometheus, wanted)
    assert labels["severity"] == "page"


def test_panels_do_not_lie_on_each_other_and_use_the_source_that_is_provisioned() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (at["x"] + right, at["y"] + down) for right in range(at["w"]) for down in range(at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    provisioned = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text()
    )["datasources"]
    chosen = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert chosen["datasource"]["current"]["value"] in {each["uid"] for each in provisioned}
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}
