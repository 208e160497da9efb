#!/usr/bin/env bash
# Runs the real clients against a server of its own: usage clients/check.sh PATH-OF-FLIGHTLINE
set -euo pipefail
program=$(realpath "$1")
cd "$(dirname "$0")/.."

environment=target/clients/python
if ! cmp -s clients/python/requirements.txt "$environment/requirements.txt"; then
  python3 -m venv --clear "$environment"
  "$environment/bin/pip" install --quiet --disable-pip-version-check -r clients/python/requirements.txt
  cp clients/python/requirements.txt "$environment/requirements.txt" # last, so that a failed installation is done again
fi
python="$environment/bin/python"

data=$(mktemp -d)
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$program" serve --object-store file --data-dir "$data" --http-bind "127.0.0.1:$port" --node-id clients --log-filter warn &
server=$!
trap 'kill -9 "$server" 2>/dev/null || true; rm -rf "$data"' EXIT

for attempt in $(seq 150); do
  curl --silent --fail --output /dev/null "http://127.0.0.1:$port/health" && break
  [ "$attempt" -lt 150 ] || { echo "the server did not answer" >&2; exit 1; }
  sleep 0.2
done

token=$(cat "$data/admin-token") # everything below is asked for it

"$python" clients/python/check.py data
"$python" clients/python/load_nycflights.py --host "http://127.0.0.1:$port" --database nyc --token "$token"
"$python" clients/python/check.py server --port "$port" --token "$token"
kill -TERM "$server"
wait "$server" # exits with 0 only if everything is in Parquet
"$python" clients/python/check.py files --data-dir "$data"
