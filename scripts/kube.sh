#!/bin/sh
# Builds a real kube-apiserver, kube-proxy and kubectl 1.20.2 from Debian 12's source package into .cache/kube/bin, for
# `make test-kube`. Installs nothing, and leaves the machine's apt lists alone: Go and the sources are unpacked in .cache/kube.
# Does nothing when they are built. A build that was interrupted goes on where it stopped.
#
# Why so: these are the newest releases in Debian as source that one Go of Debian's builds without anything from elsewhere.
set -eu
cd "$(dirname "$0")/.."

SUITE=bookworm
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
VERSION=1.20.2
PROGRAMS='kube-apiserver kube-proxy kubectl'
DEBS='golang-1.19-go golang-1.19-src golang-github-modern-go-reflect2-dev'

cache=$(pwd)/.cache/kube
work=$cache/work
tree=$work/gopath/src/k8s.io/kubernetes
goroot=$work/root/usr/lib/go-1.19

say() {
    echo "kube: $*" >&2
}

fail() {
    say "$*"
    exit 1
}

# One stamp per step: $1 names it, $2 is the function that does it.
once() {
    [ -e "$work/done-$1" ] && return 0
    "$2"
    touch "$work/done-$1"
}

check_machine() {
    for tool in apt-get dpkg-deb dpkg-source nice; do
        command -v "$tool" >/dev/null 2>&1 || fail "$tool is missing (apt-get is Debian's own; dpkg-source belongs to the package dpkg-dev)"
    done
    [ -r "$KEYRING" ] || fail "$KEYRING is missing (package debian-archive-keyring): the sources couldn't be trusted"
    free=$(df -Pk "$cache" | awk 'NR == 2 { print int($4 / 1024 / 1024) }')
    [ "$free" -ge 4 ] || fail "the build needs 4 GB in $cache; $free GB are free"
}

# apt with lists, cache and sources of its own. A mirror that serves this machine's release serves Debian 12 too.
apt() {
    apt-get -q -o "Dir::Etc::sourcelist=$work/apt/sources.list" -o "Dir::Etc::sourceparts=$work/apt/empty" \
        -o "Dir::Etc::preferences=$work/apt/none" -o "Dir::Etc::preferencesparts=$work/apt/empty" \
        -o "Dir::State=$work/apt" -o "Dir::State::status=$work/apt/status" -o "Dir::Cache=$work/apt/cache" \
        -o "APT::Sandbox::User=$(id -un)" -o Acquire::Languages=none "$@"
}

download() {
    # shellcheck source=/dev/null
    release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    # shellcheck disable=SC2016 # the dollars are apt's
    mirror=$(apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Identifier: Packages' |
        awk -v release="$release" '$2 == release && $3 == "main" { print $1; exit }')
    [ -n "$mirror" ] || fail "apt on this machine knows no source \"$release main\": no Debian mirror to take $SUITE from"
    mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial" "$work/apt/empty" "$work/download"
    : >"$work/apt/status"
    for kind in deb deb-src; do
        echo "$kind [signed-by=$KEYRING] $mirror $SUITE main"
    done >"$work/apt/sources.list"
    apt update || fail "no lists of $SUITE from $mirror; apt's message is above"
    (
        cd "$work/download"
        # shellcheck disable=SC2086 # a list of words
        apt download $DEBS && apt source --download-only kubernetes
    ) || fail "$mirror lacks the source package kubernetes of $SUITE, or $DEBS; apt's message is above"
    ls "$work"/download/kubernetes_*"$VERSION"*.dsc >/dev/null 2>&1 || fail "$mirror has another kubernetes than $VERSION: $(cd "$work/download" && echo ./*.dsc)"
}

unpack() {
    rm -rf "$work/root" "$work/gopath"
    for deb in "$work"/download/*.deb; do
        dpkg-deb -x "$deb" "$work/root"
    done
    mkdir -p "$(dirname "$tree")"
    dpkg-source --no-check -x "$work"/download/kubernetes_*.dsc "$tree"
    # The copy that 1.20.2 brings makes the server panic in merge patches under any Go newer than 1.17.
    rm -rf "$tree/vendor/github.com/modern-go/reflect2"
    cp -a "$work/root/usr/share/gocode/src/github.com/modern-go/reflect2" "$tree/vendor/github.com/modern-go/"
}

# Runs a program of Go's world at low priority, with Debian's Go for a tree from before modules, and none of the caller's settings.
with_go() {
    env -i HOME="$work" LANG=C PATH="$goroot/bin:/usr/bin:/bin" GOROOT="$goroot" GOPATH="$work/gopath" GOCACHE="$work/build" GOENV=off \
        GO111MODULE=off CGO_ENABLED=0 nice -n 15 "$@"
}

tagged_packages() {
    grep -rl --include='*.go' '^// +k8s:openapi-gen=true' pkg staging/src/k8s.io | grep -v -e /code-generator/ -e /sample-apiserver/ |
        sed -e 's,/[^/]*$,,' -e 's,^staging/src/,vendor/,' -e 's,^,k8s.io/kubernetes/,' | sort -u | paste -sd, -
}

# Debian's source lacks this generated file; it is made from the packages that ask for it.
generate() {
    (
        cd "$tree" &&
            with_go go build -p 2 -o "$work/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen &&
            packages=$(tagged_packages) &&
            with_go "$work/openapi-gen" --input-dirs "$packages" --output-package k8s.io/kubernetes/pkg/generated/openapi \
                --output-base "$work/gopath/src" --output-file-base zz_generated.openapi --report-filename "$work/openapi-report" \
                --go-header-file hack/boilerplate/boilerplate.generatego.txt
    ) || fail 'the OpenAPI definitions could not be generated; the reason is above'
}

compile() {
    cd "$tree"
    # Without these the programs call themselves 0.0.0: the server by its client library's version, the others by the second one.
    flags='-s -w'
    for package in client-go/pkg/version component-base/version; do
        path=k8s.io/kubernetes/vendor/k8s.io/$package
        flags="$flags -X $path.gitVersion=v$VERSION -X $path.gitMajor=1 -X $path.gitMinor=20 -X $path.gitTreeState=archive"
    done
    mkdir -p "$work/bin"
    for program in $PROGRAMS; do
        say "compiling $program"
        with_go go build -p 2 -ldflags "$flags" -o "$work/bin/$program" "./cmd/$program" || fail "$program doesn't compile; the reason is above"
    done
}

built() {
    [ "$(cat "$cache/built" 2>/dev/null)" = "$VERSION $PROGRAMS" ]
}

built && exit 0
mkdir -p "$work"
check_machine
say "building $PROGRAMS $VERSION: four minutes on two idle processors, 140 MB of downloads, 2.5 GB of disk meanwhile"
once download download
once unpack unpack
once generate generate
compile
for program in $PROGRAMS; do
    "$work/bin/$program" --version >/dev/null 2>&1 || "$work/bin/$program" version --client >/dev/null || fail "$program was built and doesn't run"
done
rm -rf "${cache:?}/bin"
mv "$work/bin" "$cache/bin"
chmod -R u+w "$work" && rm -rf "$work"
echo "$VERSION $PROGRAMS" >"$cache/built"
say "built: $(du -sh "$cache/bin" | cut -f1) in $cache/bin"
