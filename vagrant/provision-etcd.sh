#!/bin/sh
# Makes this machine the datastore, and the one where the operator works. Usage: provision-etcd.sh ADDRESS
#
# Without TLS, which is for a private network of three machines; docs/security.md says why it is otherwise elsewhere.
set -eu
cd "$(dirname "$0")"

address=$1
./provision-packages.sh etcd-server etcd-client
cat >/etc/default/etcd <<END
ETCD_LISTEN_CLIENT_URLS=http://$address:2379,http://127.0.0.1:2379
ETCD_ADVERTISE_CLIENT_URLS=http://$address:2379
END
systemctl enable etcd.service
systemctl restart etcd.service

# The command line alone: nothing starts the agent here.
make -C .. install
mkdir -p /etc/calico
cat >/etc/calico/calicoctl.cfg <<END
apiVersion: v1
kind: calicoApiConfig
metadata:
spec:
    etcdEndpoints: http://$address:2379
END
