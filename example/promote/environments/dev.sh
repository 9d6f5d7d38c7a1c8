#!/bin/sh
# User data of the environment dev: what differs between environments, and
# nothing else. It runs once, at an instance's first boot.
set -eu
cat >/etc/hello/hello.env <<'CONFIGURATION'
HELLO_GREETING=hello from dev
HELLO_LISTEN=:8080
CONFIGURATION
systemctl restart hello.service
