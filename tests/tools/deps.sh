#!/usr/bin/env bash
# Which system packages are missing, and their installation: as root, or through sudo, which asks.
# DEPS=print only prints the command. The CUDA Toolkit is optional and never installed from here.
set -eu
if command -v apt-get >/dev/null; then
    wanted="g++ make cmake doctest-dev libcli11-dev nlohmann-json3-dev libpcre2-dev libboost-context-dev libgomp1"
    missing=""
    for p in $wanted; do
        case "$(dpkg-query -W -f='${Status}' "$p" 2>/dev/null || true)" in *"ok installed"*) ;; *) missing="$missing $p" ;; esac
    done
    install="apt-get install -y --no-install-recommends$missing"
elif command -v dnf >/dev/null; then
    wanted="gcc-c++ make cmake doctest-devel cli11-devel json-devel pcre2-devel boost-devel libgomp"
    missing=""
    for p in $wanted; do rpm -q "$p" >/dev/null 2>&1 || missing="$missing $p"; done
    install="dnf install -y$missing"
elif command -v brew >/dev/null; then
    wanted="cmake doctest cli11 nlohmann-json pcre2 boost libomp"
    missing=""
    for p in $wanted; do brew list --versions "$p" >/dev/null 2>&1 || missing="$missing $p"; done
    install="brew install$missing"
else
    echo "deps: no apt, dnf or brew here; needed: a C++20 compiler, CMake, doctest, CLI11, nlohmann-json, PCRE2, Boost.Context, OpenMP"
    exit 0
fi
[ -n "$missing" ] || exit 0
case "$install" in brew*) root="" ;; *) [ "$(id -u)" = 0 ] && root="" || root="sudo " ;; esac
echo "deps: missing:$missing"
echo "deps: $root$install"
[ "${DEPS:-}" = print ] && exit 0
export DEBIAN_FRONTEND=noninteractive
if [ "${install%% *}" = apt-get ]; then ${root}apt-get update -qq; fi
$root$install
