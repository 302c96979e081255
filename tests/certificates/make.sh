#!/bin/sh
# Makes the certificates of the tests anew: a CA, what it has issued, and what is wrong. Their keys
# are public, so nobody may trust this CA. All but one are valid for a hundred years.
set -eu
cd "$(dirname "$0")"
days=36500

ca() { # NAME COMMON_NAME
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days $days \
        -subj "/CN=$2" -keyout "$1.key" -out "$1.pem" \
        -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign"
}

leaf() { # NAME CA SUBJECT EXTENSIONS KEY_OPTIONS...
    name=$1 ca=$2 subject=$3 extensions=$4
    shift 4
    openssl req -new -nodes -subj "$subject" -keyout "$name.key" -out "$name.csr" "$@"
    printf '%s\n' "$extensions" >"$name.ext"
    openssl x509 -req -in "$name.csr" -CA "$ca.pem" -CAkey "$ca.key" -days $days \
        -set_serial "0x$(openssl rand -hex 8)" -extfile "$name.ext" -out "$name.pem"
    rm "$name.csr" "$name.ext"
}

ec="-newkey ec -pkeyopt ec_paramgen_curve:P-256"
ca ca "weir test CA"
ca other "another test CA"
leaf site ca /CN=site.example "subjectAltName=DNS:site.example,DNS:*.wild.example,DNS:localhost,IP:127.0.0.1" $ec
leaf site-rsa ca /CN=site.example "subjectAltName=DNS:site.example,DNS:localhost" -newkey rsa:2048
leaf two ca /CN=two.example "subjectAltName=DNS:two.example" -newkey ed25519
leaf cn-only ca /CN=localhost "basicConstraints=CA:FALSE" $ec
leaf site-other other /CN=site.example "subjectAltName=DNS:site.example" $ec
leaf client ca "/O=Weir/CN=client one" "extendedKeyUsage=clientAuth" $ec
leaf client-revoked ca "/CN=client two" "extendedKeyUsage=clientAuth" $ec
leaf client-other other "/CN=client three" "extendedKeyUsage=clientAuth" $ec

# The list of the first CA revokes one client.
: >index.txt
cat >crl.conf <<EOF
[ca]
default_ca = here
[here]
database = index.txt
default_md = sha256
default_crl_days = $days
crlnumber = number.txt
crl_extensions = list
new_certs_dir = .
rand_serial = yes
policy = any
x509_extensions = leaf
[any]
commonName = supplied
[list]
authorityKeyIdentifier = keyid:always
[leaf]
subjectAltName = DNS:site.example
EOF
echo 01 >number.txt
openssl ca -config crl.conf -keyfile ca.key -cert ca.pem -revoke client-revoked.pem
openssl ca -config crl.conf -keyfile ca.key -cert ca.pem -gencrl -out crl.pem
# Without extensions it is of version 1.
sed -i '/^crl/d' crl.conf
openssl ca -config crl.conf -keyfile ca.key -cert ca.pem -gencrl -crldays $days -out crl-v1.pem

# One whose time is over.
openssl req -new -nodes -subj /CN=site.example -keyout expired.key -out expired.csr $ec
openssl ca -batch -notext -config crl.conf -keyfile ca.key -cert ca.pem -in expired.csr \
    -startdate 20200101000000Z -enddate 20200201000000Z -out expired.pem
serial=$(openssl x509 -in expired.pem -noout -serial)
rm -f index.txt* number.txt* crl.conf expired.csr "${serial#serial=}.pem"

# Keys in their other forms.
openssl ec -in site.key -out site-sec1.key
openssl rsa -in site-rsa.key -traditional -out site-rsa-pkcs1.key
openssl pkcs8 -topk8 -in site.key -passout pass:x -out site-encrypted.key
