#!/bin/sh
# Make the certificates anew, valid for 100 years: ./make.sh in this folder. Their keys guard nothing.
set -eu
work=$(mktemp -d)
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$work/$1.key"; }
: > "$work/index"
echo 01 > "$work/serial"
cat > "$work/ca.cnf" <<END
[ca]
default_ca = tests
[tests]
database = $work/index
serial = $work/serial
new_certs_dir = $work
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
END
key ca
openssl req -x509 -new -key "$work/ca.key" -sha256 -days 36500 -subj "/CN=the tests of Classy" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign -out ca.pem
leaf() { # name, subjectAltName, first day, last day
    key "$1"
    openssl req -new -key "$work/$1.key" -subj "/CN=$1" -out "$work/$1.csr"
    printf 'subjectAltName=%s\nbasicConstraints=CA:FALSE\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n' \
        "$2" > "$work/ext"
    openssl ca -batch -notext -config "$work/ca.cnf" -cert ca.pem -keyfile "$work/ca.key" -in "$work/$1.csr" \
        -extfile "$work/ext" -startdate "$3" -enddate "$4" -out "$work/$1.crt" 2> /dev/null
    cat "$work/$1.key" "$work/$1.crt" > "$1.pem"
}
leaf honest "DNS:localhost,DNS:pictures.test,IP:127.0.0.1" 20240101000000Z 21240101000000Z
leaf expired "DNS:localhost,IP:127.0.0.1" 20200101000000Z 20210101000000Z
leaf elsewhere "DNS:elsewhere.test" 20240101000000Z 21240101000000Z
key selfsigned
openssl req -x509 -new -key "$work/selfsigned.key" -sha256 -days 36500 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -out "$work/selfsigned.crt"
cat "$work/selfsigned.key" "$work/selfsigned.crt" > selfsigned.pem
rm -r "$work"
