#!/bin/bash
# The tutorial, on the machines of the Vagrantfile: guards both workers with the default policies, closes node ports, opens them
# for one client, stops the agent. After each step it tries who reaches worker-1, says so, and fails if it isn't as it should be.
# At the end everything is open again. ON names another program than Vagrant that runs a script of its stdin on a machine.
set -euo pipefail
cd "$(dirname "$0")"

ETCD=192.168.57.5 PUBLIC=192.168.56.11 PRIVATE=192.168.57.11 CLIENT=192.168.56.12
WITHIN=${WITHIN:-60}

# What is tried: from where, what it is, address, port (0 is a ping).
CELLS="
worker-2 public-ping       $PUBLIC       0
worker-2 public-ssh        $PUBLIC       22
worker-2 public-program    $PUBLIC       8000
worker-2 public-node-port  $PUBLIC       30080
worker-2 load-balancer     198.51.100.7  80
etcd     private-program   $PRIVATE      8000
etcd     private-node-port $PRIVATE      30080
"

by_vagrant() {
    vagrant ssh "$1" -- -T sudo sh -s
}

# Runs a script on a machine.
on() {
    printf '%s\n' "$2" | ${ON:-by_vagrant} "$1"
}

# Runs a command where the operator works, and shows it.
run() {
    echo "  \$ $1"
    on etcd "$1" | sed 's/^/    /'
}

heading() {
    printf '\n%s\n' "$1"
}

# Prints "NAME yes|no" for everything that one machine tries, all at once.
try_from() {
    script=$(echo "$CELLS" | while read -r from name address port; do
        [ "$from" = "$1" ] || continue
        if [ "$port" = 0 ]; then
            attempt="ping -c 1 -W 2 $address"
        else
            attempt="timeout 2 bash -c 'exec 3<>/dev/tcp/$address/$port'"
        fi
        echo "if $attempt >/dev/null 2>&1; then echo $name yes; else echo $name no; fi &"
    done)
    on "$1" "$script
wait"
}

# Tries everything until the outcome is as expected: all that is named gets through, the rest doesn't. A change takes a second.
expect() {
    deadline=$((SECONDS + WITHIN))
    while :; do
        seen=$( (try_from worker-2 && try_from etcd) | sort)
        wrong=$(echo "$seen" | while read -r name answer; do
            case " $* " in *" $name "*) wanted=yes ;; *) wanted=no ;; esac
            [ "$answer" = "$wanted" ] || echo "$name"
        done)
        if [ -z "$wrong" ] || [ $SECONDS -ge $deadline ]; then
            break
        fi
    done
    echo "$seen" | while read -r name answer; do
        case $answer in yes) answer='gets through' ;; no) answer='blocked' ;; esac
        printf '  %-18s %s\n' "$name" "$answer"
    done
    [ -z "$wrong" ] || {
        echo "not as it should be: $(echo "$wrong" | tr '\n' ' ')" >&2
        exit 1
    }
}

# The interface of a machine that has an address; boxes name them in different ways.
interface() {
    on "$1" "ip -o -4 address show to $2" | awk '{ print $2 }'
}

# The command that prints what guards a worker.
defaults() {
    public=$(interface "worker-$1" "192.168.56.1$1")
    private=$(interface "worker-$1" "192.168.57.1$1")
    echo "hostward defaults --node worker-$1 --public-interface $public --private-interface $private --public-address 192.168.56.1$1"
}

heading 'A service: its pod is on another machine; worker-1 has its node port and the load balancer'"'"'s address'
on etcd '/hostward/vagrant/service.sh pod'
on worker-1 "/hostward/vagrant/service.sh worker $ETCD"
on worker-2 "/hostward/vagrant/service.sh client $PUBLIC"

heading '1  Open: the agents run, and guard nothing yet'
run 'hostward version'
run 'hostward get nodes'
expect public-ping public-ssh public-program public-node-port load-balancer private-program private-node-port

heading '2  The default worker policies and the host endpoints: what they do not name is blocked'
run "$(defaults 1) | hostward apply -f -"
run "$(defaults 2) | hostward apply -f -"
run 'hostward get hostendpoint -o yaml'
run 'hostward get policy -o wide'
expect public-ping public-ssh public-node-port load-balancer private-program private-node-port

heading '3  A preDNAT policy shuts the public node ports; the load balancer stays open'
run 'hostward apply -f /hostward/demo/manifests/deny-kube-node-port-services.yaml'
expect public-ping public-ssh load-balancer private-program private-node-port

heading '4  One client may use the node ports, by its address'
run "sed s/203.0.113.133/$CLIENT/ /hostward/demo/manifests/allow-office-node-ports.yaml | hostward apply -f -"
expect public-ping public-ssh public-node-port load-balancer private-program private-node-port
run 'hostward delete -f /hostward/demo/manifests/allow-office-node-ports.yaml'
expect public-ping public-ssh load-balancer private-program private-node-port

heading '5  The agent of worker-1 is stopped: everything is still enforced'
on worker-1 'systemctl stop hostward-agent.service'
expect public-ping public-ssh load-balancer private-program private-node-port
on worker-1 'systemctl start hostward-agent.service'

heading '6  Everything is deleted: open again'
run 'hostward delete -f /hostward/demo/manifests/deny-kube-node-port-services.yaml'
run "$(defaults 2) | hostward delete -f -"
run "$(defaults 1) | hostward delete -f - --skip-not-exists"
expect public-ping public-ssh public-program public-node-port load-balancer private-program private-node-port
heading 'All as it should be.'
