"""The shipped systemd unit keeps its locks."""
import re

from test_nginx import ROOT, default_of, read

UNIT = {
    "NoNewPrivileges": "yes", "CapabilityBoundingSet": "", "ProtectSystem": "strict", "ProtectHome": "yes",
    "PrivateTmp": "yes", "PrivateDevices": "yes", "PrivateUsers": "yes", "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes", "ProtectKernelLogs": "yes", "ProtectControlGroups": "yes",
    "ProtectClock": "yes", "ProtectHostname": "yes", "ProtectProc": "invisible",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX", "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes", "RestrictSUIDSGID": "yes", "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes", "SystemCallArchitectures": "native", "User": "postern",
}


def test_the_systemd_unit_keeps_its_locks_and_outlasts_the_drain():
    text = read(ROOT, "deploy", "systemd", "postern@.service")
    found = dict(re.findall(r"^(\w+)=(.*)$", text, re.M))
    assert {name: found.get(name) for name in UNIT} == UNIT
    assert re.findall(r"^SystemCallFilter=(.*)$", text, re.M) == ["@system-service",
                                                                  "~@privileged @resources"]
    assert int(found["TimeoutStopSec"]) > default_of("drain_timeout_s")
    assert "API_PORT=%i" in found["Environment"]
