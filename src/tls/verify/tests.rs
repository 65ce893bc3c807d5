use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};

use super::*;
use crate::tls::suites;

fn named(names: &[&str], is_ca: IsCa) -> CertificateParams {
    let mut params = CertificateParams::default();
    // As they are: a generator's own checks would keep out what others let in.
    params.subject_alt_names = names.iter().map(|name| SanType::DnsName((*name).try_into().expect("ASCII"))).collect();
    params.is_ca = is_ca;
    params
}

/// What becomes of a certificate with these names, pinned and issued alike, where `asked` is dialled.
fn check(names: &[&str], asked: &str, expected: Result<(), Reason>) {
    let provider = Arc::new(suites::provider(None));
    let key = KeyPair::generate().expect("a key");
    let authority = IsCa::Ca(BasicConstraints::Unconstrained);
    let pinned = named(names, authority).self_signed(&key).expect("a certificate").der().clone();
    let issuer = CertifiedIssuer::self_signed(named(&[], authority), KeyPair::generate().expect("a key"));
    let issuer = issuer.expect("an authority");
    let issued = named(names, IsCa::NoCa).signed_by(&key, &issuer).expect("a certificate").der().clone();
    for (trusted, shown) in [(pinned.clone(), pinned), (issuer.der().clone(), issued)] {
        let verifier = Verifier::of_servers(Arc::new(Anchors::new(vec![trusted]).expect("trusted")), provider.clone());
        let name = ServerName::try_from(asked.to_owned()).expect("a name");
        let verdict = verifier.verify_server_cert(&shown, &[], &name, &[], UnixTime::now());
        let expected = expected.map_err(|reason| Error::InvalidCertificate(reason.error()));
        assert_eq!(verdict.map(drop), expected, "{names:?} for {asked}");
    }
}

#[test]
fn an_upstream_has_the_name_that_is_dialled() {
    let wrong = Err(Reason::WrongName);
    for (name, asked, expected) in [
        ("a.test", "a.test", Ok(())),
        ("A.Test", "a.tEST", Ok(())),
        ("a.test", "a.test.", Ok(())),
        // As OpenSSL has it: a whole domain of the top is nobody's.
        ("*.test", "a.test", wrong),
        ("*.a.test", "b.a.test", Ok(())),
        ("a_b.test", "a_b.test", Ok(())),
        ("xn--bcher-kva.test", "xn--bcher-kva.test", Ok(())),
        ("a.test", "b.test", wrong),
        ("*.a.test", "a.test", wrong),
        ("*.a.test", "c.b.a.test", wrong),
        ("a*.test", "ab.test", wrong),
        ("*", "test", wrong),
        ("a.test", "b.a.test", wrong),
        ("127.0.0.1", "127.0.0.1", wrong),
    ] {
        check(&[name], asked, expected);
        check(&["other.test", name], asked, expected);
    }
    check(&[], "a.test", wrong);
}

#[test]
fn what_is_no_certificate_is_malformed_and_trusted_by_nobody() {
    let provider = Arc::new(suites::provider(None));
    let pem = named(&["a.test"], IsCa::NoCa).self_signed(&KeyPair::generate().expect("a key")).expect("a certificate");
    let whole = pem.der().to_vec();
    let anchors = Anchors::new(vec![pem.der().clone()]).expect("trusted");
    let judge = |der: Vec<u8>| anchors.judge(Role::Client, &der.into(), &[], UnixTime::now(), &provider);
    assert_eq!(judge(whole.clone()), Ok(()));
    for len in 0..whole.len() {
        assert!(Anchors::new(vec![whole[..len].to_vec().into()]).is_err());
        assert_eq!(judge(whole[..len].to_vec()), Err(Reason::Malformed));
    }
    assert_eq!(judge([&whole[..], &[0]].concat()), Err(Reason::Malformed));
    for at in 0..whole.len() {
        let mut other = whole.clone();
        other[at] ^= 1;
        assert!(judge(other).is_err(), "byte {at} may be changed");
    }
}

#[test]
fn refusals_are_told_so_many_times_at_once() {
    let told: usize = (0..1000).filter(|_| may_tell()).count();
    assert!((128..=140).contains(&told), "{told}");
}
