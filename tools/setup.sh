#!/bin/sh
# Makes .venv ready: the virtual environment, its packages, and as root on Debian the system's libraries.
# Usage: sh tools/setup.sh [qt | bundle]. With either, a machine without the libraries Qt needs is an error, not a note;
# `bundle` also installs what packs the program, which nothing else needs.
# PYTHON names the Python 3.11 to use. An unchanged .venv/ready means there is nothing to do.
set -eu
unset CDPATH PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV
export PIP_USER=0 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_PROGRESS_BAR=off PIP_ROOT_USER_ACTION=ignore
cd -- "$(dirname -- "$0")/.."
goal=${1:-}
log=.venv/setup.log
case "$(uname -s)" in
    MINGW* | MSYS* | CYGWIN*) system=Windows bin=.venv/Scripts ;;
    *) system=$(uname -s) bin=.venv/bin ;;
esac

# What Qt's offscreen and xcb platforms load and its wheels do not carry: file, Debian package, Fedora package.
# libxcb-image and libxcb-render-util come with libxcb-cursor; FreeType, X11 and a font with the rest.
QT='libEGL.so.1 libegl1 libglvnd-egl
libGL.so.1 libgl1 libglvnd-glx
libX11-xcb.so.1 libx11-xcb1 libX11-xcb
libfontconfig.so.1 libfontconfig1 fontconfig
libdbus-1.so.3 libdbus-1-3 dbus-libs
libgthread-2.0.so.0 libglib2.0-0 glib2
libxkbcommon.so.0 libxkbcommon0 libxkbcommon
libxkbcommon-x11.so.0 libxkbcommon-x11-0 libxkbcommon-x11
libxcb-cursor.so.0 libxcb-cursor0 xcb-util-cursor
libxcb-icccm.so.4 libxcb-icccm4 xcb-util-wm
libxcb-keysyms.so.1 libxcb-keysyms1 xcb-util-keysyms
libxcb-shape.so.0 libxcb-shape0 libxcb'
SOUND='libportaudio.so.2 libportaudio2 portaudio'

say() { printf '%s\n' "$*"; }
fail() { say "$@" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

step() { # what, command...
    say "- $1"
    what=$1
    shift
    "$@" >>"$log" 2>&1 </dev/null && return
    say "Set-up failed at: $what. The end of $log:" >&2
    tail -n 20 "$log" >&2
    fail "Run the same make command again to retry."
}

# The system's packages

manager() {
    if has apt-get; then echo apt-get; elif has dnf; then echo dnf; else echo none; fi
}

absent() { # table -> packages to install, or files where the package's name is not known
    [ "$system" = Linux ] || return 0
    case "$(manager)" in apt-get) column=1 ;; dnf) column=2 ;; *) column=0 ;; esac
    say "$1" | "$python" -c '
import ctypes, sys
for line in sys.stdin:
    names = line.split()
    try:
        ctypes.CDLL(names[0])
    except OSError:
        print(names[int(sys.argv[1])])
' "$column" | sort -u | tr '\n' ' '
}

absent_voice() { [ "$system" != Linux ] || has espeak-ng || printf 'espeak-ng '; }

absent_compiler() { [ "$system" != Linux ] || has cc || has gcc || printf 'gcc libc6-dev '; }

absent_venv() { "$python" -c 'import ensurepip, venv' 2>/dev/null || printf 'python3.11-venv '; }

how() { # packages -> what a person does about them
    if [ "$(manager)" = none ]; then
        say "  Install what holds:" $*
    else
        say "  sudo $(manager) install" $*
    fi
}

install_packages() { # packages; never fails: the caller looks again
    [ "$(id -u)" = 0 ] && has apt-get || return 0
    say "- system packages: $*"
    # Closed lock: a service started by a package must not hold it.
    apt_get install --no-install-recommends "$@" 9>&- && return
    apt_get update 9>&- || :
    apt_get install --no-install-recommends "$@" 9>&- || say "  apt-get could not install them; $log says why."
}

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" >>"$log" 2>&1 </dev/null
}

require_qt() { # other packages that the same command should install
    lacking=$(absent "$QT")
    [ -n "$lacking" ] || return 0
    install_packages $lacking
    lacking=$(absent "$QT")
    [ -z "$lacking" ] || fail "Qt needs libraries that this system lacks. Install them, then run make again:
$(how "$lacking$*")
The commands that open no window work without them: make demo, make lint."
}

prepare_system() {
    packages=$(absent_venv)$(absent "$QT")$(absent "$SOUND")$(absent_voice)$(absent_compiler)
    [ -n "$packages" ] || return 0
    install_packages $packages
    # One package that cannot be had must not cost the others.
    required=$(absent_venv)$(absent "$QT")
    [ -z "$required" ] || install_packages $required
    packages=$(absent_venv)$(absent "$QT")$(absent "$SOUND")$(absent_voice)$(absent_compiler)
    [ -n "$packages" ] || return 0
    [ -z "$(absent_venv)" ] || fail "$python cannot make virtual environments. Install what is missing, then run make again:
$(how "$packages")"
    [ -z "$goal" ] || [ -z "$(absent "$QT")" ] || require_qt "$(absent "$SOUND")$(absent_voice)"
    say "- missing, and needed for windows, sound or the system's voice only:"
    how "$packages"
}

# Python

find_python() {
    for name in "${PYTHON:-}" python3.11 python3 python "${HOME:-}"/.pyenv/versions/3.11.*/bin/python; do
        # The base interpreter: an activated .venv may be about to go.
        [ -n "$name" ] || continue
        python=$("$name" -c 'import sys
if sys.version_info[:2] == (3, 11): sys.stdout.write(sys._base_executable)' 2>/dev/null) && [ -n "$python" ] && return
    done
    return 1
}

require_python() {
    find_python && return
    install_packages python3.11 python3.11-venv
    find_python && return
    case "$system-$(manager)" in
        Darwin-*) way="brew install python@3.11" ;;
        Linux-dnf) way="sudo dnf install python3.11" ;;
        Linux-apt-get) way="sudo apt-get install python3.11 python3.11-venv" ;;
        *) way="pyenv install 3.11" ;;
    esac
    fail "Crane needs Python 3.11, and none was found. Install it, then run make again:
  $way
Where that has no 3.11, pyenv or uv can install it: make run PYTHON=/path/to/python3.11"
}

require_machine() {
    "$python" -c 'import platform, sys
sys.exit((sys.platform, platform.machine()) == ("darwin", "x86_64"))' || fail "Crane needs Apple Silicon here: \
neither MLX nor PyTorch 2.13 has a build for Intel Macs. On an Apple Silicon Mac, use an arm64 Python 3.11."
    "$python" -c 'import sys, sysconfig
sys.exit("musl" in str(sysconfig.get_config_var("HOST_GNU_TYPE")))' || fail "Crane needs a Linux with glibc: \
PyTorch has no build for musl."
}

# .venv

lock() { # until this script and what it started have ended
    mkdir -p .venv
    exec 9>>.venv/lock
    if has flock; then
        flock -n 9 || { say "Another make is setting up .venv; waiting for it."; flock 9; }
    elif [ "$system" != Windows ]; then
        "$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
    fi
}

key() { # what the packages depend on, and whether Crane's own kernels could be built and are there
    cat pyproject.toml tools/setup.sh crane_app/backends/torch/csrc/* | cksum
    "$bin/python" -V 2>&1
    command -v cc gcc || :
    ls crane_app/backends/torch/_native.* 2>/dev/null || :
}

current() { [ -f .venv/ready ] && [ "$(cat .venv/ready)" = "$(key; pwd -P)" ]; }

moved() { [ -f .venv/ready ] && [ "$(sed '$d' .venv/ready)" = "$(key)" ]; }

usable() { [ ! -e .venv/unfinished ] && "$bin/python" -c 'import pip, sys
sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; }

install_torch() { # first and alone: one call for all may swap the CPU build for one with CUDA
    [ "$system" != Darwin ] || return 0
    pin=$(sed -n 's/.*"\(torch==[0-9.]*\);.*/\1/p' pyproject.toml)
    step "$pin, which is large" "$bin/python" -m pip install "$pin"
}

install_rest() { # the build's own tools first, so that a later change of pyproject.toml needs no network
    tools=$(sed -n 's/^requires = \["\(.*\)"\]/\1/p' pyproject.toml)
    "$bin/python" -m pip install "$tools" && "$bin/python" -m pip install --no-build-isolation -e '.[test]'
}

install_packer() {
    pin=$(sed -n 's/^bundle = \["\(.*\)"\]/\1/p' pyproject.toml)
    "$python" -c 'import PyInstaller' 2>/dev/null || step "$pin" "$python" -m pip install "$pin"
}

set_up() {
    say "Setting up .venv; the log is $log."
    : >"$log"
    require_python
    require_machine
    if moved; then
        step "the folder has moved: linking it again" "$python" -m venv --without-pip .venv
        step "Crane itself" "$bin/python" -m pip install --no-deps --no-build-isolation -e .
    else
        prepare_system
        usable || find .venv/ -mindepth 1 -maxdepth 1 ! -name lock ! -name setup.log -exec rm -rf {} +
        rm -f .venv/ready
        : >.venv/unfinished
        [ -x "$bin/python" ] || step "a virtual environment of $("$python" -V)" "$python" -m venv .venv
        install_torch
        step "all other packages" install_rest
        rm -f .venv/unfinished
    fi
    { key; pwd -P; } >.venv/ready.new
    mv .venv/ready.new .venv/ready
    say "Ready."
}

python=$bin/python
if ! current; then
    has flock || require_python
    lock
    current || set_up
    python=$bin/python
fi
[ -z "$goal" ] || require_qt
[ "$goal" != bundle ] || install_packer
