"""Prints the events of all agents, each once: python3 scada.py HOST PORT. Needs paho-mqtt >= 2.1."""

import json
import sys
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

REMEMBERED = 10_000  # an event that is sent again, after a lost connection, has the event_id it had before
seen: dict[str, None] = {}


def on_connect(client: mqtt.Client, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
    """Subscribe, after every reconnect too."""
    print("broker:", reason, file=sys.stderr, flush=True)
    client.subscribe("edge-vae/+/+/+/event", qos=1)


def on_message(_client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
    """Print an event unless it was seen before."""
    try:
        event = json.loads(message.payload)
        line = " ".join(event[field] for field in ("time", "asset", "event", "severity"))
        channels = ", ".join(channel["name"] for channel in event["channels"][:3])  # those with the largest share
        is_new = event["event_id"] not in seen
    except (ValueError, TypeError, KeyError) as error:
        print("not an event:", message.topic, repr(error), file=sys.stderr, flush=True)
        return
    if is_new:
        seen[event["event_id"]] = None
        print(line, channels, flush=True)
    if len(seen) > REMEMBERED:
        del seen[next(iter(seen))]  # the oldest


# The broker keeps what comes while this program is away, because the session has a name and is not a clean one.
client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="scada", clean_session=False)
client.on_connect, client.on_message = on_connect, on_message
client.connect(sys.argv[1], int(sys.argv[2]))
client.loop_forever()
