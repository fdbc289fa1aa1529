from __future__ import annotations

from edge_vae import assembly
from edge_vae.alarm import AlarmRules
from edge_vae.config import AlarmConfig


def test_rules_of_the_configuration_replace_those_of_the_bundle_one_by_one() -> None:
    bundle = AlarmRules(on_delay=(4, 5), off_delay=(2, 2), deadband=0.3)
    assert assembly._rules(bundle, AlarmConfig()) == bundle
    changed = assembly._rules(bundle, AlarmConfig(on_delay=(1, 2), deadband=0.0))
    assert changed == AlarmRules(on_delay=(1, 2), off_delay=(2, 2), deadband=0.0)
