//! PEM as people have it: text around it, several things in one file, line ends of Windows. What is something else than what
//! is wanted is called by its name, since "not PEM" sends its reader to the wrong place.

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

const BEGIN: &str = "-----BEGIN ";

/// Every certificate of a PEM text. More than `most` are an error: to leave some out would be to trust, or to show, others
/// than were written.
///
/// # Errors
/// What is wrong, for people.
pub fn certificates(pem: &[u8], most: usize) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = normal(pem);
    if let Some(problem) = labels(&pem).find_map(no_certificate) {
        return Err(problem.to_owned());
    }
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).take(most + 1).collect();
    match found {
        Ok(found) if found.len() > most => Err(format!("more than {most} certificates")),
        Ok(found) if found.is_empty() && X509Certificate::from_der(&pem).is_ok() => {
            Err("a certificate in DER, not in PEM: `openssl x509 -inform DER` turns it into PEM".into())
        }
        Ok(found) => Ok(found),
        Err(_) => Err("not PEM".to_owned()),
    }
}

/// The first private key of a PEM text.
///
/// # Errors
/// What is wrong, for people; never a byte of it.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, &'static str> {
    let pem = normal(pem);
    let is_encrypted = labels(&pem).any(|label| label == "ENCRYPTED PRIVATE KEY")
        || pem.windows(PROC_TYPE.len()).any(|window| window == PROC_TYPE);
    if is_encrypted {
        return Err("the key has a passphrase, which nobody could type in: `openssl pkey` writes it without");
    }
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| match labels(&pem).next() {
        None if pem.first() == Some(&SEQUENCE) => {
            "a key in DER, not in PEM: `openssl pkey -inform DER` turns it into PEM"
        }
        Some("CERTIFICATE") => "a certificate and no private key",
        Some(label) if label.ends_with("PUBLIC KEY") => "a public key, not the private one",
        _ => "no private key in PEM",
    })
}

/// Of a key encrypted as before PKCS#8.
const PROC_TYPE: &[u8] = b"Proc-Type: 4,ENCRYPTED";
/// DER begins so.
pub(super) const SEQUENCE: u8 = 0x30;

/// Why a section that is not a certificate makes the whole text wrong. Others, such as a key, may stand beside certificates.
fn no_certificate(label: &str) -> Option<&'static str> {
    match label {
        "TRUSTED CERTIFICATE" => Some(
            "a `TRUSTED CERTIFICATE` carries OpenSSL's own settings of trust, which would be lost: `openssl x509` writes it \
             without",
        ),
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => {
            Some("a certificate request: what the authority makes of it is needed")
        }
        "PKCS7" => Some("PKCS#7, not certificates: `openssl pkcs7 -print_certs` writes them"),
        _ => None,
    }
}

fn labels(pem: &[u8]) -> impl Iterator<Item = &str> {
    let lines = pem.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    lines.filter_map(|line| line.trim().strip_prefix(BEGIN)?.strip_suffix("-----"))
}

/// Without what surrounds lines, and with the name that OpenSSL gave certificates before 1998 and still reads. DER stays as
/// it is.
fn normal(pem: &[u8]) -> Vec<u8> {
    if pem.first() == Some(&SEQUENCE) {
        return pem.to_vec();
    }
    let pem = pem.strip_prefix(b"\xef\xbb\xbf").unwrap_or(pem);
    let mut out = Vec::with_capacity(pem.len());
    for line in pem.split(|byte| matches!(byte, b'\n' | b'\r')) {
        match line.trim_ascii() {
            b"-----BEGIN X509 CERTIFICATE-----" => out.extend_from_slice(b"-----BEGIN CERTIFICATE-----"),
            b"-----END X509 CERTIFICATE-----" => out.extend_from_slice(b"-----END CERTIFICATE-----"),
            line => out.extend_from_slice(line),
        }
        out.push(b'\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn made() -> (String, String, Vec<u8>) {
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(["a.test".into()]).and_then(|params| params.self_signed(&key));
        let certificate = certificate.expect("a certificate");
        (certificate.pem(), key.serialize_pem(), certificate.der().to_vec())
    }

    #[test]
    fn pem_is_read_as_people_have_it() {
        let (crt, key, der) = made();
        let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        for text in [
            crt.clone(),
            crt.replace('\n', "\r\n"),
            crt.replace('\n', "  \n  "),
            format!("\u{feff}{crt}"),
            format!("Certificate:\n    Data: x\n{crt}\ntrailing"),
            format!("{key}{crt}"),
            format!("{crt}{key}"),
            crt.replace("BEGIN CERT", "BEGIN X509 CERT").replace("END CERT", "END X509 CERT"),
            crt.trim_end().to_owned(),
        ] {
            assert_eq!(certificates(text.as_bytes(), 1).expect(&text), [CertificateDer::from(der.clone())], "{text}");
        }
        let expected = private_key(key.as_bytes()).expect("a key");
        for text in [
            key.replace('\n', "\r\n"),
            format!("{key}{crt}"),
            format!("{crt}{key}"),
            format!("{parameters}{key}"),
            format!("Bag Attributes\n    friendlyName: a\nKey Attributes: <No Attributes>\n{key}"),
        ] {
            assert_eq!(private_key(text.as_bytes()).expect(&text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_something_else_is_called_by_its_name() {
        let (crt, key, der) = made();
        let refused = |text: &[u8]| certificates(text, 16).expect_err("refused");
        assert!(refused(&der).starts_with("a certificate in DER, not in PEM"));
        let trusted = crt.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
        assert!(refused(trusted.as_bytes()).starts_with("a `TRUSTED CERTIFICATE`"));
        assert!(refused(format!("{crt}{trusted}").as_bytes()).starts_with("a `TRUSTED CERTIFICATE`"));
        assert!(refused(crt.replace("CERTIFICATE", "CERTIFICATE REQUEST").as_bytes()).starts_with("a certificate req"));
        assert!(refused(crt.replace("CERTIFICATE", "PKCS7").as_bytes()).starts_with("PKCS#7"));
        assert_eq!(refused(&crt.as_bytes()[..100]), "not PEM");
        assert_eq!(certificates(key.as_bytes(), 16), Ok(vec![]));

        let refused = |text: &[u8]| private_key(text).expect_err("refused");
        assert!(
            refused(key.replace("PRIVATE", "ENCRYPTED PRIVATE").as_bytes()).starts_with("the key has a passphrase")
        );
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        assert!(refused(old.as_bytes()).starts_with("the key has a passphrase"));
        assert_eq!(refused(crt.as_bytes()), "a certificate and no private key");
        assert!(refused(&der).starts_with("a key in DER"));
        assert_eq!(refused(key.replace("PRIVATE", "PUBLIC").as_bytes()), "a public key, not the private one");
        assert_eq!(refused(b""), "no private key in PEM");
    }
}
