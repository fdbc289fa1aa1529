#!/bin/sh
# All events of all agents, one line each: topic, then JSON. What comes while this is not running is kept by the broker
# (-c with a client id) and delivered on the next start. Host, login and TLS as for mosquitto_sub: durable.sh -h broker -p 1883
exec mosquitto_sub -i scada-log -c -q 1 -v -t 'edge-vae/+/+/+/event' "$@"
