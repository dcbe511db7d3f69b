"""The trial on a laptop: compose takes the file, and it opens nothing to others."""

import copy
import json
import re
from pathlib import Path

import pytest
import yaml
from compose_spec import PyCompose

from tests.command_line import lamella
from tests.deploy.manifests import DEPLOY, Manifest, compose

SERVICES = compose()["services"]


def check(value: Manifest) -> None:
    """Read a compose file as the specification has it; unknown keys are errors."""
    PyCompose.from_json(json.dumps(value)).validate()


def test_compose_knows_every_key() -> None:
    check(compose())
    for key, wrong, said in (
        ("imagee", "x", "imagee"),
        ("restart", "sometimes", "unknown variant `sometimes`"),
        ("ports", ["nowhere"], "nowhere|port"),
    ):
        value = copy.deepcopy(compose())
        value["services"]["push"][key] = wrong
        with pytest.raises(ValueError, match=said):
            check(value)


def test_services_depend_on_services_and_mount_what_is_there() -> None:
    volumes = set(compose()["volumes"])
    for service in SERVICES.values():
        assert set(service.get("depends_on", ())) <= set(SERVICES)
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in volumes or source == "/pictures" or (DEPLOY / source).exists(), source


def test_ports_are_open_to_this_machine_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_images_have_versions_and_nothing_calls_wget() -> None:
    for service in SERVICES.values():
        _, _, version = service["image"].partition(":")
        assert re.fullmatch(r"v?\d+(\.\d+)+", version), service["image"]
    commands = [
        json.dumps([each.get("command"), each.get("healthcheck")]) for each in SERVICES.values()
    ]
    assert not any("wget" in each or "curl" in each for each in commands)


def test_the_key_of_the_trial_is_the_one_that_its_server_knows() -> None:
    (identity,) = json.loads((DEPLOY / "compose.s3.json").read_text())["identities"]
    environment = SERVICES["index"]["environment"]
    assert identity["credentials"] == [
        {
            "accessKey": environment["AWS_ACCESS_KEY_ID"],
            "secretKey": environment["AWS_SECRET_ACCESS_KEY"],
        }
    ]
    # It says of itself that it is worth nothing, and is found nowhere else in deploy/.
    key = environment["AWS_SECRET_ACCESS_KEY"]
    assert "no-worth" in key
    holding = {path.name for path in DEPLOY.rglob("*") if path.is_file() and key in _text(path)}
    assert holding == {"compose.yaml", "compose.s3.json"}


def test_prometheus_scrapes_services_of_the_trial_on_their_ports() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus/compose.prometheus.yml").read_text())
    targets = {
        job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]
    }
    environment = SERVICES["index"]["environment"]
    assert targets == {
        "push": [environment["LAMELLA_PUSH"].removeprefix("http://")],
        "running": [f"index:{environment['LAMELLA_METRICS_PORT']}"],
    }
    assert {each.split(":")[0] for (each,) in targets.values()} <= set(SERVICES)
    assert environment["LAMELLA_METRICS_HOST"] == "0.0.0.0"


def test_grafana_finds_the_dashboard_where_it_is_mounted() -> None:
    provisioning = DEPLOY / "grafana/provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards/lamella.yaml").read_text())[
        "providers"
    ]
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    mounted = [volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/dashboard.json" in mounted
    assert "/etc/grafana/provisioning" in mounted
    assert source["url"] == "http://prometheus:9090"


@pytest.mark.parametrize("name", ["index", "lamella"])
def test_a_command_of_the_trial_can_be_read(name: str, tmp_path: Path) -> None:
    """In a place without pictures or store each is refused for that, and not for an option."""
    arguments = [
        each.replace("s3://", f"{tmp_path}/").replace("/pictures", f"{tmp_path}/none")
        for each in SERVICES[name]["command"]
    ]
    said = lamella(*arguments)
    assert said.returncode == 2
    assert str(tmp_path) in said.stderr
    assert "option" not in said.stderr.lower()


def _text(path: Path) -> str:
    return path.read_text(errors="replace")
