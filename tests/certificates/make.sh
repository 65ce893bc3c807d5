# Certificates as OpenSSL's commands write them, in the current directory: run by tests/certificates.rs.
set -e
exec 2> make.log

cat > ca.cnf <<'END'
[ca]
default_ca = any
[any]
database = index
new_certs_dir = .
default_md = sha256
default_days = 30
policy = named
rand_serial = yes
unique_subject = no
[named]
commonName = supplied
[req]
distinguished_name = dn
[dn]
END
: > index
NAMED=subjectAltName=DNS:a.test,IP:127.0.0.1

# csr NAME KEY
csr() { openssl req -new -config ca.cnf -key "$2" -subj "/CN=$1" -out "$1.csr"; }
# self NAME KEY [options]: what `openssl req -x509` makes of its own configuration.
self() { n=$1 k=$2; shift 2; openssl req -x509 -key "$k" -subj "/CN=$n" -days 30 -out "$n.crt" "$@"; }
# sign NAME KEY CA [lines of extensions]: `openssl ca`; START, END, MD and SELF come from the environment.
sign() {
    n=$1 k=$2 ca=$3; shift 3; csr "$n" "$k"; printf '%s\n' "$@" > "$n.ext"
    if [ "$SELF" ]; then by="-selfsign -keyfile $k"; else by="-cert $ca.crt -keyfile $ca.key"; fi
    openssl ca -batch -config ca.cnf $by -in "$n.csr" -out "$n.crt" -extfile "$n.ext" -notext \
        -startdate "${START:-20200101000000Z}" -enddate "${END:-20400101000000Z}" -md "${MD:-sha256}"
}
# simple NAME KEY CA [options]: `openssl x509 -req`.
simple() { n=$1 k=$2 ca=$3; shift 3; csr "$n" "$k"; openssl x509 -req -in "$n.csr" -CA "$ca.crt" -CAkey "$ca.key" -set_serial "${SERIAL:-7}" -days 30 -out "$n.crt" "$@"; }
ec() { openssl ecparam -genkey -noout -name "${2:-prime256v1}" | openssl pkcs8 -topk8 -nocrypt -out "$1"; }
rsa() { openssl genrsa -out "$1" "${2:-2048}"; }

ec leaf.key; ec other.key; rsa rsa.key;
rsa rsa1024.key 1024; ec p384.key secp384r1; ec p521.key secp521r1
openssl genpkey -algorithm ed25519 -out ed25519.key
openssl genpkey -algorithm rsa-pss -pkeyopt rsa_keygen_bits:2048 -out pss.key
for ca in ca ca-bare ca-len0 ca-no-sign ca-v1 ca-strict ca-old inter inter0 inter-no-sign twin; do ec $ca.key; done
rsa ca-1024.key 1024

# Authorities.
openssl req -x509 -key ca.key -subj /CN=ca -days 30 -out ca.crt
SELF=1 sign ca-bare ca-bare.key - basicConstraints=CA:TRUE
SELF=1 sign ca-len0 ca-len0.key - basicConstraints=critical,CA:TRUE,pathlen:0
SELF=1 sign ca-no-sign ca-no-sign.key - basicConstraints=critical,CA:TRUE keyUsage=digitalSignature
SELF=1 sign ca-strict ca-strict.key - basicConstraints=critical,CA:TRUE keyUsage=critical,keyCertSign nameConstraints=critical,permitted\;DNS:b.test,permitted\;IP:10.0.0.0/255.0.0.0
SELF=1 END=20210101000000Z sign ca-old ca-old.key - basicConstraints=critical,CA:TRUE
SELF=1 sign ca-1024 ca-1024.key - basicConstraints=critical,CA:TRUE
csr ca-v1 ca-v1.key; openssl x509 -req -in ca-v1.csr -signkey ca-v1.key -days 30 -out ca-v1.crt
sign inter inter.key ca basicConstraints=critical,CA:TRUE
sign inter0 inter0.key ca-len0 basicConstraints=critical,CA:TRUE
sign inter-no-sign inter-no-sign.key ca basicConstraints=critical,CA:TRUE keyUsage=digitalSignature
# The same name and key from another authority: cross-signed.
csr inter inter.key
printf 'basicConstraints=critical,CA:TRUE\n' > cross.ext
openssl x509 -req -in inter.csr -CA ca-bare.crt -CAkey ca-bare.key -set_serial 8 -days 30 -extfile cross.ext -out cross.crt
# The same name and another key.
openssl req -x509 -key twin.key -subj /CN=ca -days 30 -out twin.crt

# Self-signed.
self self-rsa rsa.key; self self-rsa-named rsa.key -addext $NAMED; self self-ec leaf.key -addext $NAMED
self self-ed25519 ed25519.key -addext $NAMED; self self-p384 p384.key -addext $NAMED; self self-p521 p521.key -addext $NAMED
self self-pss pss.key -addext $NAMED; self self-1024 rsa1024.key -addext $NAMED
self self-wrong-name leaf.key -addext subjectAltName=DNS:b.test
openssl req -x509 -key leaf.key -subj /CN=self-ec -days 30 -addext $NAMED -out self-renewed.crt
openssl req -x509 -key other.key -subj /CN=self-ec -days 30 -addext $NAMED -out self-forged.crt
SELF=1 sign self-no-ca leaf.key - $NAMED basicConstraints=CA:FALSE; cp leaf.key self-no-ca.key
SELF=1 END=20210101000000Z sign self-expired leaf.key - $NAMED basicConstraints=CA:TRUE
SELF=1 START=20390101000000Z sign self-early leaf.key - $NAMED basicConstraints=CA:TRUE
SELF=1 MD=sha1 sign self-sha1 leaf.key - $NAMED basicConstraints=CA:TRUE
SELF=1 sign self-server-only leaf.key - $NAMED basicConstraints=CA:TRUE extendedKeyUsage=serverAuth
SELF=1 sign self-client-only leaf.key - $NAMED basicConstraints=CA:TRUE extendedKeyUsage=clientAuth
SELF=1 sign self-ca-usage leaf.key - $NAMED basicConstraints=critical,CA:TRUE keyUsage=critical,keyCertSign,cRLSign
SELF=1 sign self-critical leaf.key - $NAMED basicConstraints=CA:TRUE 1.2.3.4=critical,ASN1:NULL
csr self-v1 leaf.key; openssl x509 -req -in self-v1.csr -signkey leaf.key -days 30 -out self-v1.crt

# Issued.
sign plain leaf.key ca $NAMED; sign full leaf.key ca $NAMED basicConstraints=CA:FALSE keyUsage=digitalSignature,keyEncipherment subjectKeyIdentifier=hash authorityKeyIdentifier=keyid,issuer 'nsComment="OpenSSL Generated Certificate"' nsCertType=client,server
sign of-bare leaf.key ca-bare $NAMED; sign of-v1 leaf.key ca-v1 $NAMED; sign of-len0 leaf.key ca-len0 $NAMED
sign of-no-sign leaf.key ca-no-sign $NAMED; sign of-strict leaf.key ca-strict $NAMED; sign of-old leaf.key ca-old $NAMED
sign of-1024 leaf.key ca-1024 $NAMED; sign of-self leaf.key self-no-ca $NAMED; sign of-inter leaf.key inter $NAMED
sign of-inter0 leaf.key inter0 $NAMED; sign of-inter-no-sign leaf.key inter-no-sign $NAMED; sign of-twin leaf.key twin $NAMED
simple v1 leaf.key ca; simple v1-of-v1 leaf.key ca-v1; simple v1-of-inter leaf.key inter; simple v1-of-no-sign leaf.key ca-no-sign
simple v1-of-old leaf.key ca-old; simple v1-of-twin leaf.key twin; simple v1-sha1 leaf.key ca -sha1; simple v1-of-len0 leaf.key inter0
simple v1-of-strict leaf.key ca-strict; simple v1-of-inter-no-sign leaf.key inter-no-sign
sign ca-leaf leaf.key ca $NAMED basicConstraints=CA:TRUE
sign ca-leaf-usage leaf.key ca $NAMED basicConstraints=critical,CA:TRUE keyUsage=critical,keyCertSign
SERIAL=0 simple serial-0 leaf.key ca -extfile plain.ext; SERIAL=-5 simple serial-negative leaf.key ca -extfile plain.ext
SERIAL=0x1122334455667788990011223344556677889900112233445566 simple serial-long leaf.key ca -extfile plain.ext
MD=sha1 sign sha1 leaf.key ca $NAMED; sign rsa1024 rsa1024.key ca $NAMED; sign pss pss.key ca $NAMED; sign p521 p521.key ca $NAMED
END=20210101000000Z sign expired leaf.key ca $NAMED; START=20390101000000Z sign early leaf.key ca $NAMED
sign server-only leaf.key ca $NAMED extendedKeyUsage=serverAuth; sign client-only leaf.key ca $NAMED extendedKeyUsage=clientAuth
sign both leaf.key ca $NAMED extendedKeyUsage=serverAuth,clientAuth; sign any leaf.key ca $NAMED extendedKeyUsage=anyExtendedKeyUsage
sign critical leaf.key ca $NAMED 1.2.3.4=critical,ASN1:NULL; sign name-only leaf.key ca basicConstraints=CA:FALSE
sign wrong-name leaf.key ca subjectAltName=DNS:b.test; sign address-as-name leaf.key ca subjectAltName=DNS:127.0.0.1

# Trusted and shown together.
cat ca-old.crt ca.crt ca.crt ca-bare.crt > several.crt
{ echo 'A note, and the text of the certificate:'; openssl x509 -in ca.crt -text; echo; sed 's/$/\r/' ca-bare.crt; } > noted.crt
sed 's/^/  /; s/$/  /' ca.crt > spaced.crt
cat of-inter.crt inter.crt > chain.crt; cat of-inter.crt ca.crt inter.crt > chain-rooted-odd.crt
cat of-inter.crt cross.crt inter.crt self-rsa.crt > chain-cross.crt; cat of-inter0.crt inter0.crt > chain-len0.crt
cat of-inter-no-sign.crt inter-no-sign.crt > chain-no-sign.crt; cat v1-of-inter.crt inter.crt > chain-v1.crt
cat v1-of-len0.crt inter0.crt > chain-v1-len0.crt; cat v1-of-inter-no-sign.crt inter-no-sign.crt > chain-v1-no-sign.crt
cat plain.crt ca.crt self-rsa.crt > plain-rooted.crt
