#!/bin/sh
# A service as kube-proxy would make it, without Kubernetes: a pod on another machine, a node port, a load balancer's address.
# Can be run again. Usage: service.sh pod | worker ETCD_ADDRESS | client WORKER_ADDRESS
set -eu

POD=172.30.1.5 NODE_PORT=30080 BALANCER=198.51.100.7

serve() {
    if ! timeout 2 bash -c "exec 3<>/dev/tcp/$1/$2" 2>/dev/null; then
        cd /srv
        setsid python3 -m http.server --bind "$1" "$2" </dev/null >/dev/null 2>&1 &
    fi
}

# Adds a rule unless it is there.
nat() {
    iptables-legacy -w -t nat -C "$@" 2>/dev/null || iptables-legacy -w -t nat -A "$@"
}

case $1 in
pod)
    ip address replace "$POD/32" dev lo
    serve "$POD" 8080
    ;;
worker)
    ip route replace "$POD" via "$2"
    nat PREROUTING -p tcp --dport "$NODE_PORT" -m addrtype --dst-type LOCAL -j DNAT --to-destination "$POD:8080"
    nat PREROUTING -d "$BALANCER" -p tcp --dport 80 -j DNAT --to-destination "$POD:8080"
    nat POSTROUTING -d "$POD" -p tcp --dport 8080 -m conntrack --ctstate DNAT -j MASQUERADE
    # A program of the worker's own, for whoever can reach it.
    serve 0.0.0.0 8000
    ;;
client)
    ip route replace "$BALANCER" via "$2"
    ;;
esac
