#!/bin/sh
# Makes this machine a worker: installs the agent as on bare metal and starts it. Usage: provision-worker.sh NAME ETCD_ADDRESS
set -eu
cd "$(dirname "$0")"

name=$1 etcd=$2
./provision-packages.sh
make -C .. install
cat >/etc/hostward/agent.env <<END
NODENAME=$name
ETCD_ENDPOINTS=http://$etcd:2379
END
# A worker forwards what comes for a service to its pods.
mkdir -p /etc/sysctl.d
echo 'net.ipv4.ip_forward = 1' >/etc/sysctl.d/90-worker.conf
systemctl restart systemd-sysctl.service
systemctl enable hostward-agent.service
systemctl restart hostward-agent.service
