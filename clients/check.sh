#!/usr/bin/env bash
# Runs the real clients against servers of its own: usage clients/check.sh PATH-OF-FLIGHTLINE
#
# Needs Python 3.11, Go, Java 17 with Maven, Node.js with npm, OpenSSL and curl; what is missing is a failure. Packages are
# installed into target/clients/LANGUAGE, and once more when the file that names their versions has changed.
set -euo pipefail
program=$(realpath "$1")
cd "$(dirname "$0")/.."

for tool in python3 go java javac mvn node npm openssl curl; do
  command -v "$tool" >/dev/null || { echo "clients/check.sh needs $tool" >&2; exit 1; }
done

step() { printf '\n-- %s\n' "$*"; }
installed=$(realpath -m target/clients)

# In every case what names the versions is copied last, so that a failed installation is done again.
step "install: Python"
environment=$installed/python
if ! cmp -s clients/python/requirements.txt "$environment/requirements.txt"; then
  python3 -m venv --clear "$environment"
  "$environment/bin/pip" install --quiet --disable-pip-version-check -r clients/python/requirements.txt
  cp clients/python/requirements.txt "$environment/requirements.txt"
fi
python="$environment/bin/python"

step "install: Java"
if ! cmp -s clients/java/pom.xml "$installed/java/pom.xml"; then
  rm -rf "$installed/java"
  mkdir -p "$installed/java"
  mvn --quiet --batch-mode --file clients/java/pom.xml \
    org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies -DoutputDirectory="$installed/java/lib"
  cp clients/java/pom.xml "$installed/java/pom.xml"
fi
rm -rf "$installed/java/classes"
javac -Xlint:all,-processing,-classfile,-try -cp "$installed/java/lib/*" -d "$installed/java/classes" clients/java/flightline/*.java

step "install: Go"
(cd clients/go && go test -c -o "$installed/go/checks" .)

step "install: Node.js"
if ! cmp -s clients/node/package-lock.json "$installed/node/installed.json"; then
  mkdir -p "$installed/node"
  cp clients/node/package.json clients/node/package-lock.json "$installed/node/"
  # No package gets to run a script of its own.
  npm ci --prefix "$installed/node" --ignore-scripts --no-audit --no-fund --silent
  cp clients/node/package-lock.json "$installed/node/installed.json"
fi
cp clients/node/*.mjs "$installed/node/"

step "servers, without and with TLS"
scratch=$(mktemp -d)
servers=()
trap 'kill -9 "${servers[@]}" 2>/dev/null || true; rm -rf "$scratch"' EXIT

openssl_in_scratch() { (cd "$scratch" && openssl "$@" 2>/dev/null); }
openssl_in_scratch req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem
openssl_in_scratch req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=server -keyout server.key -out server.csr
printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n' >"$scratch/extensions"
openssl_in_scratch x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out server.pem

free_port() { "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
serve() { # NAME PORT ARGUMENTS...
  local name=$1 port=$2
  shift 2
  "$program" serve --object-store file --data-dir "$scratch/$name" --http-bind "127.0.0.1:$port" --node-id clients --log-filter warn "$@" &
  servers+=($!)
}
ready() { # URL
  for _ in $(seq 150); do
    curl --silent --fail --cacert "$scratch/ca.pem" --output /dev/null "$1/health" && return
    sleep 0.2
  done
  echo "the server at $1 did not answer" >&2
  exit 1
}

port=$(free_port)
serve plain "$port"
tls_port=$(free_port)
serve tls "$tls_port" --tls-cert "$scratch/server.pem" --tls-key "$scratch/server.key"
ready "http://127.0.0.1:$port"
ready "https://127.0.0.1:$tls_port"

token=$(cat "$scratch/plain/admin-token") # everything below is asked for it
tls_token=$(cat "$scratch/tls/admin-token")
# One line, so that there is something to ask for.
curl --silent --show-error --fail --cacert "$scratch/ca.pem" --header "Authorization: Bearer $tls_token" \
  --data-binary 'weather,origin=JFK temp=39.02 1357020000000000000' "https://127.0.0.1:$tls_port/api/v3/write_lp?db=nyc"

step "data"
"$python" clients/python/check.py data
"$python" clients/python/load_nycflights.py --host "http://127.0.0.1:$port" --database nyc --token "$token"
"$python" clients/python/expected.py "$scratch/answers.jsonl"

export FLIGHTLINE_HOST=127.0.0.1 FLIGHTLINE_PORT=$port FLIGHTLINE_DATABASE=nyc FLIGHTLINE_TOKEN=$token
export FLIGHTLINE_TLS_PORT=$tls_port FLIGHTLINE_TLS_TOKEN=$tls_token FLIGHTLINE_TLS_CA=$scratch/ca.pem
export FLIGHTLINE_ANSWERS=$scratch/answers.jsonl

step "Python"
"$python" clients/python/check.py server --port "$port" --token "$token"

step "Java"
# The driver reaches into java.nio. A zone that is not UTC, because that is where Java's times go wrong.
java --add-opens=java.base/java.nio=ALL-UNNAMED -Duser.timezone=America/New_York -Djava.util.logging.config.file=clients/java/logging.properties \
  -cp "$installed/java/classes:$installed/java/lib/*" org.junit.platform.console.ConsoleLauncher execute \
  --disable-banner --disable-ansi-colors --details=tree --select-package=flightline --fail-if-no-tests

step "Go"
(cd clients/go && "$installed/go/checks" -test.v -test.timeout 15m)

step "Node.js"
(cd "$installed/node" && NODE_EXTRA_CA_CERTS=$scratch/ca.pem GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=$scratch/ca.pem \
  node --test --test-reporter=spec ./*.test.mjs)

step "files"
kill -TERM "${servers[0]}"
wait "${servers[0]}" # exits with 0 only if everything is in Parquet
"$python" clients/python/check.py files --data-dir "$scratch/plain"
