# Makes the project's Python environment on first use, then reuses it; exports PYTHON.
# shellcheck shell=bash
#
#   . env.sh                    in every shell script, and in a bash session
#   bash env.sh                 makes the environment without touching the calling shell
#
# Settings, all optional, as variables:
#   ALBERT_TF=2                 .venv-tf2: TensorFlow 2.15 on Python 3.9 to 3.11 (the default)
#   ALBERT_TF=1                 .venv-tf1: TensorFlow 1.15 on Python 3.7
#   ALBERT_TF=latest            .venv-tflatest: TensorFlow 2.21 on Python 3.12, which has no
#                               Estimator: for what only runs a model, not for training
#   ALBERT_PYTHON=/path         the Python to make the environment with (default: searched for)
#   ALBERT_DEVICE=cpu|gpu       the build of TensorFlow (default: gpu where nvidia-smi lists one)
#   ALBERT_HASHES=no            do not check the SHA-256 of what is installed (see below)
#   ALBERT_EXTRAS="test lint"   also install requirements/test.txt and requirements/lint.txt;
#                               and, for TensorFlow 2.15 only: hf (PyTorch, to compare with Hugging
#                               Face), export (ONNX), serve (the service), browser (its tests)
#
# What requirements/hashes/ lists (the builds for CPUs, all extras but hf) is installed only where
# its SHA-256 is the one listed. A mirror that builds its own wheels needs ALBERT_HASHES=no.
#
# Sourced, it only compares the environment with the requirements: no Python is started, nothing is
# printed, no option of the shell matters. For the set-up it runs itself as a program of its own.

if [ -z "${BASH_VERSION:-}" ]; then
    echo "ERROR: env.sh works in bash only: start 'bash', then give '. env.sh' there" >&2
    # shellcheck disable=SC2317 # reached where the file is run, not sourced
    return 1 2>/dev/null || exit 1
fi

# ---------------------------------------------------------------------------------------------
# Sourced: check the settings, compare, export PYTHON. The variables root, tf, venv are local to
# the entry functions `_albert_use` and `_albert_main`, and seen by what they call.
# ---------------------------------------------------------------------------------------------

_albert_use() {
    local IFS=$' \t\n' root tf venv
    _albert_locate || return
    if ! _albert_is_ready; then
        BASH_ENV='' ALBERT_TF=$tf ALBERT_PYTHON=${ALBERT_PYTHON:-} \
            ALBERT_DEVICE=${ALBERT_DEVICE:-} ALBERT_EXTRAS=${ALBERT_EXTRAS:-} \
            ALBERT_HASHES=${ALBERT_HASHES:-} \
            command bash "$root/env.sh" || return
    fi
    export PYTHON=$venv/bin/python
}

# Sets root, tf and venv, and checks the settings.
_albert_locate() {
    local folder=${BASH_SOURCE[0]%/*} extra
    [ "$folder" != "${BASH_SOURCE[0]}" ] || folder=.
    root=$(CDPATH='' builtin cd -- "$folder" && builtin pwd) || return
    [ -r "$root/requirements/core.txt" ] ||
        _albert_error "no folder requirements beside $root/env.sh: copy the whole project" || return
    tf=${ALBERT_TF:-2}
    case $tf in
        1 | 2 | latest) venv=$root/.venv-tf$tf ;;
        *) _albert_error \
            "ALBERT_TF=$tf: it is 2 (TensorFlow 2.15, the default), 1 (1.15) or latest" ;;
    esac || return
    case ${ALBERT_DEVICE:-} in
        '' | cpu | gpu) ;;
        *) _albert_error "ALBERT_DEVICE=$ALBERT_DEVICE: it is cpu or gpu, or unset" || return ;;
    esac
    case ${ALBERT_HASHES:-} in
        '' | no) ;;
        *) _albert_error "ALBERT_HASHES=$ALBERT_HASHES: it is no, or unset" || return ;;
    esac
    for extra in ${ALBERT_EXTRAS:-}; do
        case $extra in
            test | lint | hf | export | serve | browser | fuzz) ;;
            *) _albert_error "ALBERT_EXTRAS=\"$ALBERT_EXTRAS\": it may list test, lint, hf," \
                "export, serve, browser and fuzz" || return ;;
        esac
    done
}

_albert_error() {
    printf 'ERROR: %s\n' "$*" >&2
    return 1
}

# Tells whether the environment holds all that is asked for.
_albert_is_ready() {
    local part
    [ -x "$venv/bin/python" ] && [ ! -e "$venv/unfinished" ] || return
    [ -z "${ALBERT_PYTHON:-}" ] || _albert_holds "$venv/made-with" "$ALBERT_PYTHON" || return
    for part in core ${ALBERT_EXTRAS:-}; do
        _albert_is_installed "$part" || return
    done
}

_albert_is_installed() {
    _albert_holds "$venv/installed-$1" "$(_albert_recipe "$1")"
}

# Tells whether file $1 holds text $2.
_albert_holds() {
    [ -r "$1" ] && [ "$(<"$1")" = "$2" ]
}

# Prints what part $1 is made from: if that text is the one kept when it was installed, it is ready.
_albert_recipe() {
    local file files="$1.txt" device=any
    if [ "$1" = core ]; then
        device=$(_albert_device)
        files="installers.txt core.txt $device.txt"
    fi
    printf 'device %s\n' "$device"
    for file in $files "constraints-tf$tf.txt"; do
        printf '%s\n' "$(<"$root/requirements/$file")"
    done
}

# Prints cpu or gpu. Once installed, the GPU build stays: it runs on machines without a GPU too, and
# folders are shared between machines with and without one.
_albert_device() {
    local installed=
    if [ -n "${ALBERT_DEVICE:-}" ]; then
        printf '%s\n' "$ALBERT_DEVICE"
        return
    fi
    [ ! -r "$venv/installed-core" ] || read -r installed <"$venv/installed-core" || installed=
    if [ "$installed" = "device gpu" ] || _albert_sees_gpu; then
        echo gpu
    else
        echo cpu
    fi
}

_albert_sees_gpu() {
    builtin type -P nvidia-smi >/dev/null || return
    case $(command nvidia-smi -L 2>/dev/null) in
        *"GPU "[0-9]*:*) return 0 ;;
        *) return 1 ;;
    esac
}

# ---------------------------------------------------------------------------------------------
# Run as a program: the set-up.
# ---------------------------------------------------------------------------------------------

_albert_main() {
    local root tf venv name log
    _albert_locate || exit 1
    name=.venv-tf$tf
    log=$root/.tools/env-tf$tf.log
    _albert_clean_surroundings
    mkdir -p "$root/.tools" 2>/dev/null && [ -w "$root/.tools" ] && [ -w "$root" ] ||
        _albert_die "cannot write in $root, where $name is to be made: change the folder's" \
            "permissions, or work in a copy of the project that is yours"
    _albert_lock "env-tf$tf" "the set-up of $name"
    ! _albert_is_ready || exit 0
    : >"$log"
    _albert_check_folder
    [ -e "$venv" ] || _albert_create_from_any
    [ -z "${ALBERT_PYTHON:-}" ] || _albert_check_same_python
    for part in core ${ALBERT_EXTRAS:-}; do
        _albert_is_installed "$part" || _albert_install "$part"
    done
}

_albert_die() {
    _albert_error "$@"
    exit 1
}

_albert_say() {
    printf '%s\n' "$*" >&2
}

# Prints the end of the log, marked as such.
_albert_log_tail() {
    tail -n "${1:-15}" "$log" | sed 's/^/  | /' >&2
}

# Keeps settings meant for other projects away from this one. Mirrors and proxies stay.
_albert_clean_surroundings() {
    IFS=$' \t\n'
    unset PYTHONHOME PYTHONPATH PYTHONSTARTUP VIRTUAL_ENV PIP_TARGET PIP_PREFIX PIP_ROOT
    export PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_NO_INPUT=1
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
    exec </dev/null
}

# Waits until no other shell does job $1 (described as $2); the lock goes with this process.
_albert_lock() {
    local lock=$root/.tools/$1.lock owner said=
    if type -P flock >/dev/null; then
        exec 9>"$lock"
        flock -n 9 && return
        _albert_say "Waiting for another shell that is at $2 ..."
        flock 9 && return
    fi
    # No flock (macOS) or a file system without it: a link that names its owner, made in one step.
    until ln -s "$$" "$lock.owner" 2>/dev/null; do
        owner=$(readlink "$lock.owner") || continue
        if ! kill -0 "$owner" 2>/dev/null; then
            rm -f "$lock.owner"
        elif [ -z "$said" ]; then
            _albert_say "Waiting for another shell (process $owner) that is at $2 ..."
            said=yes
        fi
        sleep 1
    done
    # shellcheck disable=SC2064 # the path is to be fixed now
    trap "rm -f $(printf %q "$lock.owner")" EXIT
}

# Keeps a sound environment, removes one that is of no use, stops at what is not env.sh's own.
_albert_check_folder() {
    [ -e "$venv" ] || [ -L "$venv" ] || return 0
    if [ -e "$venv/unfinished" ] || [ -z "$(ls -A "$venv")" ]; then
        _albert_say "An earlier set-up of $name was interrupted; starting afresh."
        _albert_remove_environment
    elif [ ! -e "$venv/pyvenv.cfg" ]; then
        _albert_die "$venv exists, but is no Python environment: move it away"
    elif ! "$venv/bin/python" -m pip --version >>"$log" 2>&1; then
        _albert_say "The Python that $name was made with is gone; making it afresh."
        _albert_remove_environment
    elif ! _albert_fits "$venv/bin/python"; then
        _albert_die "$venv cannot be used, because its Python $reason;" \
            "to make it afresh: rm -rf $(printf %q "$venv")"
    fi
}

# Removes the environment: first from its place, so that an interruption leaves no half of it there.
_albert_remove_environment() {
    local discarded=$root/.tools/discarded-tf$tf
    rm -rf "$discarded"
    mv "$venv" "$discarded" || _albert_die "cannot remove $venv"
    rm -rf "$discarded"
}

# Stops unless the environment was made with ALBERT_PYTHON; keeps the answer.
_albert_check_same_python() {
    local asked version reason
    asked=$(_albert_asked_python) || exit
    _albert_fits "$asked" ||
        _albert_die "ALBERT_PYTHON=$ALBERT_PYTHON $reason, but $(_albert_needs)"
    asked=$base
    _albert_fits "$venv/bin/python"
    [ "$asked" -ef "$base" ] ||
        _albert_die "$name was made with $base, not with ALBERT_PYTHON=$ALBERT_PYTHON: unset" \
            "ALBERT_PYTHON, or have $name made afresh: rm -rf $(printf %q "$venv")"
    printf '%s\n' "$ALBERT_PYTHON" >"$venv/made-with"
}

# ---------------------------------------------------------------------------------------------
# Finding an interpreter
# ---------------------------------------------------------------------------------------------

# Prints the names of the interpreters that fit, best first.
_albert_names() {
    case $tf in
        1) echo python3.7 ;;
        2) echo python3.11 python3.10 python3.9 ;;
        latest) echo python3.12 ;;
    esac
}

# Prints the version of the first of them.
_albert_version() {
    local names
    names=$(_albert_names)
    names=${names%% *}
    printf '%s\n' "${names#python}"
}

_albert_needs() {
    case $tf in
        1) echo "TensorFlow 1.15 (ALBERT_TF=1) needs Python 3.7 (CPython, 64 bits)" ;;
        2) echo "TensorFlow 2.15 needs Python 3.9, 3.10 or 3.11 (CPython, 64 bits)" ;;
        latest) echo "TensorFlow 2.21 (ALBERT_TF=latest) needs Python 3.12 (CPython, 64 bits)" ;;
    esac
}

# Creates the environment with the first interpreter that can, or says what to install.
_albert_create_from_any() {
    local candidate base version reason reasons='' seen=$'\n'
    if [ -n "${ALBERT_PYTHON:-}" ]; then
        candidate=$(_albert_asked_python) || exit
        _albert_try "$candidate" ||
            _albert_die "ALBERT_PYTHON=$ALBERT_PYTHON $reason, but $(_albert_needs)"
        return
    fi
    while read -r candidate <&3; do
        [ -z "$candidate" ] || ! _albert_try "$candidate" || return 0
    done 3<<<"$(_albert_candidates)"
    if [ "$tf" != 1 ]; then
        if candidate=$(_albert_python_from_uv); then
            ! _albert_try "$candidate" || return 0
        else
            reasons="$reasons  uv $candidate"$'\n'
        fi
    fi
    _albert_say_what_to_install
    exit 1
}

_albert_asked_python() {
    type -P -- "$ALBERT_PYTHON" ||
        _albert_die "ALBERT_PYTHON=$ALBERT_PYTHON is no program; $(_albert_needs)"
}

# Creates the environment with interpreter $1 if it fits; otherwise sets `reason`, adds it to
# `reasons`, and fails. An interpreter that goes by several names is tried once.
_albert_try() {
    if _albert_fits "$1"; then
        case $seen in *$'\n'"$base"$'\n'*) return 1 ;; esac
        seen=$seen$base$'\n'
        ! _albert_create || return 0
    fi
    reasons="$reasons  $1 $reason"$'\n'
    return 1
}

# Tells whether interpreter $1 runs and is of a version that fits; sets `version` and `base` (the
# program itself, where $1 is a shim or belongs to an environment), or else `reason`.
_albert_fits() {
    local answer kind bits
    if ! answer=$("$1" -c "$_albert_probe" 2>&1); then
        reason="does not run ($(head -n 1 <<<"$answer"))"
        return 1
    fi
    read -r version kind bits base <<<"$(tail -n 1 <<<"$answer")"
    reason="is Python $version"
    [ "$kind" = cpython ] || reason="is $kind"
    [ "$bits" = 64 ] || reason="has $bits bits"
    [ "$kind $bits" = "cpython 64" ] || return 1
    case " $(_albert_names) " in
        *" python${version%.*} "*) return 0 ;;
        *) return 1 ;;
    esac
}

# shellcheck disable=SC2016 # Python, not shell
_albert_probe='
import os, sys
kind = getattr(getattr(sys, "implementation", None), "name", "cpython")
bits = 64 if sys.maxsize > 2**32 else 32
base, prefix = sys.executable, getattr(sys, "real_prefix", getattr(sys, "base_prefix", sys.prefix))
if prefix != sys.prefix:
    owner = os.path.join(prefix, "bin", "python%d.%d" % sys.version_info[:2])
    base = owner if os.path.exists(owner) else base
print("%d.%d.%d %s %d %s" % (sys.version_info[:3] + (kind, bits, base)))
'

# Prints the interpreters that may fit, a line each: PATH first, then pyenv, uv and conda.
_albert_candidates() {
    local program folder
    for program in $(_albert_names) python3 python; do
        type -aP "$program" || true
    done
    for program in $(_albert_names); do
        for folder in "$root/.tools/python"/* "${PYENV_ROOT:-${HOME:-}/.pyenv}/versions"/* \
            "${HOME:-}/.local/share/uv/python"/*; do
            _albert_print_program "$folder/bin/$program"
        done
    done
    _albert_conda_folders | while read -r folder; do
        for program in $(_albert_names); do
            _albert_print_program "$folder/bin/$program"
        done
    done
}

_albert_print_program() {
    [ ! -x "$1" ] || printf '%s\n' "$1"
}

# Prints the folders of conda's environments, a line each.
_albert_conda_folders() {
    local base
    [ -z "${CONDA_PREFIX:-}" ] || printf '%s\n' "$CONDA_PREFIX"
    {
        [ -z "${CONDA_EXE:-}" ] || printf '%s\n' "${CONDA_EXE%/bin/conda}"
        conda info --base 2>/dev/null || true
        printf '%s\n' "${HOME:-}"/miniconda3 "${HOME:-}"/anaconda3 "${HOME:-}"/miniforge3 \
            "${HOME:-}"/.conda
    } | while read -r base; do
        printf '%s\n' "$base" "$base/envs"/*
    done
}

# ---------------------------------------------------------------------------------------------
# uv, where every Python is too new
# ---------------------------------------------------------------------------------------------

# Prints the path of a Python that uv provides, or else why there is none, and fails.
# (uv offers no Python 3.7: its catalogue begins with 3.8.)
_albert_python_from_uv() {
    local uv program wanted
    wanted=$(_albert_version)
    _albert_lock uv "the installation of uv"
    if ! uv=$(type -P uv || _albert_print_own_uv); then
        _albert_say "No Python that fits is here; installing uv, which can provide one ..."
        if ! _albert_install_uv >>"$log" 2>&1; then
            _albert_log_tail 5
            echo "cannot be installed: no Python 3 here has a pip that gets it (see above and $log)"
            return 1
        fi
        uv=$(_albert_print_own_uv)
    fi
    _albert_say "Fetching Python $wanted with $uv (about 30 MB) ..."
    if ! UV_PYTHON_INSTALL_DIR=$root/.tools/python UV_PYTHON_INSTALL_BIN=0 \
        "$uv" python install "$wanted" >>"$log" 2>&1; then
        _albert_log_tail 5
        echo "could not fetch Python $wanted (see above and $log)"
        return 1
    fi
    for program in "$root/.tools/python"/*/bin/python"$wanted"; do
        [ ! -x "$program" ] || break
    done
    printf '%s\n' "$program"
}

_albert_print_own_uv() {
    [ -x "$root/.tools/uv/bin/uv" ] && printf '%s\n' "$root/.tools/uv/bin/uv"
}

# Installs uv into .tools/uv with the pip of any Python 3, or the pip of an environment made by one.
_albert_install_uv() {
    local python maker=$root/.tools/uv-maker made=$root/.tools/uv-unfinished
    while read -r python <&4; do
        rm -rf "$maker" "$made"
        if "$python" -m pip --version || { "$python" -m venv "$maker" &&
            python=$maker/bin/python && "$python" -m pip --version; }; then
            if "$python" -m pip install --quiet --target "$made" --require-hashes \
                -r "$root/requirements/hashes/uv.txt"; then
                rm -rf "$maker" "$root/.tools/uv"
                mv "$made" "$root/.tools/uv"
                return
            fi
        fi
    done 4<<<"$(type -aP python3 python3.14 python3.13 python3.12 python3.11 python3.10 python)"
    rm -rf "$maker" "$made"
    return 1
}

_albert_say_what_to_install() {
    local path wanted
    wanted=$(_albert_version)
    path=$(printf %q "$root/.tools/conda")
    {
        echo "ERROR: $(_albert_needs), and none was found that works:"
        printf '%s' "${reasons:-  (no Python at all)
}"
        echo "Install one, then give the same command again:"
        if [ "$tf" = 1 ]; then
            cat <<END
  pyenv           pyenv install 3.7
  conda           conda create -y -p $path python=3.7
                  and then: export ALBERT_PYTHON=$path/bin/python
  Ubuntu          sudo add-apt-repository ppa:deadsnakes/ppa
                  sudo apt-get install python3.7 python3.7-venv
TensorFlow 2.15, the default, needs none of this: leave ALBERT_TF unset.
END
        else
            cat <<END
  Debian, Ubuntu  sudo apt-get install python3-venv (then uv can fetch Python $wanted), or, where
                  the release has it: sudo apt-get install python$wanted python$wanted-venv
  pyenv           pyenv install $wanted
  conda           conda create -y -p $path python=$wanted
                  and then: export ALBERT_PYTHON=$path/bin/python
  uv              https://docs.astral.sh/uv/ (it is used when it is on the PATH); where it cannot
                  reach its site: export UV_PYTHON_INSTALL_MIRROR=https://some.mirror/path
END
        fi
        echo "A Python at another place is named by: export ALBERT_PYTHON=/path/to/python"
    } >&2
}

# ---------------------------------------------------------------------------------------------
# Creating and filling the environment. `unfinished` lies in its folder while either goes on, so
# that the next call starts afresh after an interruption.
# ---------------------------------------------------------------------------------------------

# Creates the environment with interpreter `base`; where that fails, sets `reason`.
_albert_create() {
    _albert_say "Creating $name with Python $version, $base (first use, 1 to 2 minutes) ..."
    { mkdir "$venv" && : >"$venv/unfinished"; } || _albert_die "cannot write in $venv"
    if "$base" -m venv "$venv" >>"$log" 2>&1 &&
        "$venv/bin/python" -m pip --version >>"$log" 2>&1; then
        return 0
    fi
    _albert_remove_environment
    reason="cannot create environments (see $log)"
    "$base" -c 'import ensurepip' 2>>"$log" ||
        reason="cannot create environments (no ensurepip: Debian and Ubuntu have it in the \
package python${version%.*}-venv)"
    return 1
}

# Installs part $1 and keeps what it was made from.
_albert_install() {
    local part=$1 python=$venv/bin/python stamp=$venv/installed-$1 recipe
    recipe=$(_albert_recipe "$part")
    : >"$venv/unfinished" || _albert_die "cannot write in $venv"
    if [ "$part" = core ]; then
        _albert_install_core "$(_albert_device)"
    else
        _albert_say "Installing the requirements for $part into $name ..."
        _albert_pip_install "$part" "$part"
    fi
    { printf '%s\n' "$recipe" >"$stamp.new" && mv "$stamp.new" "$stamp" &&
        rm "$venv/unfinished"; } || _albert_die "cannot write in $venv (is the disk full?)"
}

# Installs the build of TensorFlow for device $1 and what every script needs.
_albert_install_core() {
    local device=$1 size="about 250 MB"
    case $tf$device in 2gpu | latestgpu) size="about 3 GB, with CUDA" ;; esac
    if [ -r "$venv/installed-core" ] && ! grep -qx "device $device" "$venv/installed-core"; then
        _albert_say "Removing the other build of TensorFlow from $name ..."
        rm "$venv/installed-core"
        "$python" -m pip uninstall -y tensorflow tensorflow-cpu tensorflow-gpu >>"$log" 2>&1
    fi
    _albert_say "Installing TensorFlow ($device build, $size) and what goes with it into $name ..."
    _albert_pip_install installers installers
    if [ "$device" = cpu ]; then
        _albert_pip_install core core cpu
    else
        _albert_pip_install "" core "$device"
    fi
    if ! "$python" -c 'import jieba, sentencepiece, tensorflow' >>"$log" 2>&1; then
        _albert_log_tail
        _albert_die "TensorFlow was installed into $name, but does not start (log: $log)." \
            "An 'Illegal instruction' means that this processor lacks AVX, which it needs"
    fi
}

# Installs what the files $2 ... in requirements/ ask for; files whose hashes are not those that
# are listed for part $1, if any are, are refused. Where pip gives up, a ready environment stays.
_albert_pip_install() {
    local status=0 clock file hashes
    hashes=$(_albert_hashes "$1")
    shift
    for file; do
        set -- "$@" -r "$root/requirements/$file.txt"
        shift
    done
    # First, as pip takes the hashes from where a package is named first.
    [ -z "$hashes" ] || set -- --require-hashes -r "$hashes" "$@"
    set -- -c "$root/requirements/constraints-tf$tf.txt" "$@"
    _albert_show_time 9>&- &
    clock=$!
    "$python" -m pip install --quiet "$@" >>"$log" 2>&1 || status=$?
    kill "$clock" 2>/dev/null
    wait "$clock" 2>/dev/null
    if [ "$status" != 0 ]; then
        _albert_log_tail
        [ ! -e "$venv/installed-core" ] || rm "$venv/unfinished"
        _albert_die "pip could not install what $name needs (log: $log)." \
            "Check the network and the package index, then give the same command again." \
            "$(_albert_hash_hint "$hashes")" "$(_albert_machine_hint)"
    fi
}

# Prints the file of hashes for part $1, or nothing where there is none for this machine.
_albert_hashes() {
    local file=$root/requirements/hashes/$1.txt
    [ "$1" = installers ] || file=$root/requirements/hashes/tf$tf-$1.txt
    [ -z "${ALBERT_HASHES:-}" ] && [ -n "$1" ] && [ -r "$file" ] || return 0
    case $tf-$(uname -s)-$(uname -m) in
        *-Linux-x86_64 | 2-Linux-aarch64 | latest-Linux-aarch64 | 2-Darwin-*)
            printf '%s\n' "$file" ;;
    esac
}

_albert_hash_hint() {
    [ -n "$1" ] || return 0
    if grep -q "DO NOT MATCH THE HASHES" "$log"; then
        echo "The index hands out other files than $1 lists: use another one, or, if it is" \
            "known to build its own files: export ALBERT_HASHES=no."
    elif grep -q "Hashes are required in" "$log"; then
        echo "After a change of requirements/*.txt: python requirements/make_hashes.py."
    fi
}

# Prints the seconds now and then, as long as this program runs, to show that it goes on.
_albert_show_time() {
    local started=$SECONDS next=20
    while sleep 2 >/dev/null 2>&1 && kill -0 "$$" 2>/dev/null; do
        [ $((SECONDS - started)) -ge "$next" ] || continue
        _albert_say "  ... $name: $next s"
        next=$((next + 20))
    done
}

_albert_machine_hint() {
    case $tf-$(uname -m) in
        1-x86_64) ;;
        1-*) echo "TensorFlow 1.15 was never built for $(uname -m): leave ALBERT_TF unset" ;;
    esac
}

# ---------------------------------------------------------------------------------------------

# Leaves nothing but PYTHON in the shell that sourced this file.
_albert_forget() {
    local IFS=$' \t\n'
    # shellcheck disable=SC2046 # names, one a word
    unset -f $(compgen -A function _albert_)
    unset _albert_probe
}

if ! (return 0 2>/dev/null); then
    set -uo pipefail
    _albert_main
    exit
fi
if ! _albert_use; then
    unset PYTHON
    _albert_forget
    return 1
fi
_albert_forget
