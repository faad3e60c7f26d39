#!/bin/bash
# Runs neural-tangents' own tests, which its wheel brings along, against the installed JAX, one file
# after the other, and prints how many pass: run.sh [FOLDER FOR LOGS [FILE...]], for example
# run.sh /tmp/logs predict_test.py stax/stax_test.py. All of them take about half an hour.
# PYTHON names the interpreter (python). Ends with 1 where a test fails.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
logs=${1:-$(mktemp -d)}
shift
python=${PYTHON:-python}
mkdir -p "$logs"

export JAX_PLATFORMS=${JAX_PLATFORMS:-cpu}
# The tests' tolerances fit the random numbers that were JAX's default until 0.5.
export JAX_THREEFRY_PARTITIONABLE=0
export PYTHONPATH=$here:$here/../..${PYTHONPATH:+:$PYTHONPATH}

# By path: other packages, and this repository, have a folder "tests" too.
tests=$("$python" -c '
import importlib.metadata as metadata
print(metadata.distribution("neural-tangents").locate_file("tests"))')
[ -f "$tests/empirical_test.py" ] || { echo "no tests of neural-tangents in $tests" >&2; exit 2; }
if [ $# -eq 0 ]; then
  mapfile -t files < <(cd "$tests" && find . -name '*_test.py' -printf '%P\n' | sort)
  set -- "${files[@]}"
fi

count() { # count WORD LOG: the number before it in pytest's last line
  tail -n 1 "$2" | grep -oE "[0-9]+ $1" | grep -oE '[0-9]+' || echo 0
}

status=0
row='%-40s %7s %7s %7s\n'
printf "$row" file passed failed skipped
for file in "$@"; do
  log=$logs/${file//\//.}.log
  "$python" -m pytest -c /dev/null --rootdir "$tests" -p no:cacheprovider -p old_names \
    -q -rf --tb=short "$tests/$file" >"$log" 2>&1 </dev/null
  if grep -qE "No module named '(tensorflow|tensorflow_datasets|tf2jax)'" "$log"; then
    printf '%-40s needs TensorFlow\n' "$file"
    continue
  fi
  failed=$(($(count failed "$log") + $(count error "$log")))
  passed=$(count passed "$log")
  skipped=$(count skipped "$log")
  # A file with no summary at all, or with no test, did not run.
  if [ $((passed + failed + skipped)) -eq 0 ]; then failed=1; fi
  printf "$row" "$file" "$passed" "$failed" "$skipped"
  [ "$failed" -eq 0 ] || status=1
  grep '^FAILED' "$log" | sed 's/^/    /'
done
exit $status
