"""From a broker as the configuration describes it to the settings of a connection, password included."""

from __future__ import annotations

from edge_vae.broker_config import MqttConfig, read_password
from edge_vae.publish.mqtt import MqttSettings, TlsFiles

__all__ = ["connection"]


def connection(mqtt: MqttConfig, *, client_id: str) -> MqttSettings:
    """Settings for one client of the broker.

    Args:
        mqtt: The broker.
        client_id: A name that no other client of this broker has.

    Raises:
        ConfigError: The password file cannot be read.
    """
    tls = mqtt.tls
    return MqttSettings(
        host=mqtt.host,
        port=mqtt.port,
        client_id=client_id,
        protocol=mqtt.protocol,
        username=mqtt.username,
        password=read_password(mqtt.password_file),
        tls=TlsFiles(ca_file=tls.ca_file, cert_file=tls.cert_file, key_file=tls.key_file) if tls else None,
        keepalive_s=mqtt.keepalive_s,
    )
