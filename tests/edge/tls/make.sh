#!/bin/sh
# Makes the certificates beside this file: an authority, a broker on 127.0.0.1, a client, and an authority that signed
# neither. They are for tests only, valid from 2020 to 2120; the keys of the authorities are thrown away.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
: >"$work/index"
cat >"$work/ca.conf" <<CONF
[ca]
default_ca = it
[it]
database = $work/index
new_certs_dir = $work
rand_serial = yes
default_md = sha256
policy = any
[any]
commonName = supplied
[authority]
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
keyUsage = critical,keyCertSign
basicConstraints = critical,CA:TRUE
[server]
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
basicConstraints = critical,CA:FALSE
subjectAltName = IP:127.0.0.1
[client]
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
basicConstraints = critical,CA:FALSE
extendedKeyUsage = clientAuth
CONF
certify() { # name, kind, how it is signed
    name=$1 kind=$2
    shift 2
    openssl ecparam -name prime256v1 -genkey -noout -out "$work/$name.key"
    openssl req -new -key "$work/$name.key" -subj "/CN=edge-vae test $name" -out "$work/$name.csr"
    openssl ca -batch -notext -config "$work/ca.conf" -extensions "$kind" -in "$work/$name.csr" -out "$name.pem" \
        -startdate 20200101000000Z -enddate 21200101000000Z "$@"
}
certify ca authority -selfsign -keyfile "$work/ca.key"
certify stranger authority -selfsign -keyfile "$work/stranger.key"
certify server server -cert ca.pem -keyfile "$work/ca.key"
certify client client -cert ca.pem -keyfile "$work/ca.key"
cp "$work/server.key" "$work/client.key" .
