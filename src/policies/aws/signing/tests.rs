//! By the published vectors: the suite for Version 4, the examples of the manuals of S3 and IAM, and the key of Version 4A.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, KeyPair, UnparsedPublicKey};

use super::*;

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// 2015-08-30 12:36:00, and 2013-05-24 00:00:00.
const SUITE: u64 = 1_440_938_160;
const S3: u64 = 1_369_353_600;

fn stamp(seconds: u64) -> Stamp {
    Stamp::of(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
}

fn credentials() -> Credentials {
    Credentials {
        access_key_id: "AKIDEXAMPLE".to_owned(),
        secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
        session_token: None,
    }
}

fn service(algorithm: Algorithm, name: &str) -> Service {
    Service { algorithm, region: "us-east-1".to_owned(), name: name.to_owned() }
}

fn request<'a>(method: &'a str, target: &'a str, lines: &[(&str, &'a str)], payload: &'a str) -> Request<'a> {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let headers = lines.iter().map(|(name, value)| (name.to_lowercase().into_bytes(), value.as_bytes())).collect();
    Request { method: method.as_bytes(), path: path.as_bytes(), query: query.as_bytes(), headers, payload }
}

/// The signature of a request of the suite, with these headers between its own two.
fn signature(method: &str, target: &str, more: &[(&str, &str)], body: &str) -> String {
    let host = [("Host", "example.amazonaws.com")];
    let lines = [&host[..], more, &[("X-Amz-Date", "20150830T123600Z")]].concat();
    let payload = sha256_hex(body.as_bytes());
    let request = request(method, target, &lines, &payload);
    signed(&request, &service(Algorithm::SigV4, "service"), &credentials(), &stamp(SUITE))
}

fn signed(request: &Request<'_>, service: &Service, credentials: &Credentials, stamp: &Stamp) -> String {
    let key = SigningKey::new(credentials, service, stamp).expect("a key");
    let value = authorization(request, service, credentials, &key, stamp).expect("a signature");
    value.rsplit('=').next().expect("a signature").to_owned()
}

#[test]
fn the_suite_of_version_4() {
    let all = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let (unreserved, query) = (format!("/{all}"), format!("/?{all}={all}"));
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8Y\
                 UuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8Y\
                 QcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR\
                 /oLxBA==";
    let values = |values: &[&'static str]| -> Vec<_> { values.iter().map(|value| ("My-Header1", *value)).collect() };
    for (method, target, more, body, expected) in [
        ("GET", "/", vec![], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            "GET",
            "/?Param2=value2&Param1=value1",
            vec![],
            "",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "GET",
            "/?Param1=value2&Param1=value1",
            vec![],
            "",
            "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694",
        ),
        ("GET", "/?Param1=value1", vec![], "", "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"),
        ("GET", &query, vec![], "", "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"),
        ("GET", "/?\u{1234}=bar", vec![], "", "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"),
        ("GET", "/?%E1%88%B4=bar", vec![], "", "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"),
        ("GET", "/\u{1234}", vec![], "", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        ("GET", &unreserved, vec![], "", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
        ("GET", "/./", vec![], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("GET", "/example/..", vec![], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            "GET",
            "/example1/example2/../..",
            vec![],
            "",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        ("GET", "//", vec![], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("GET", "//example//", vec![], "", "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),
        ("GET", "/./example", vec![], "", "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5"),
        ("GET", "/example space/", vec![], "", "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"),
        (
            "GET",
            "/",
            vec![("My-Header1", " value1"), ("My-Header2", " \"a   b   c\"")],
            "",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        (
            "GET",
            "/",
            values(&["value4", "value1", "value3", "value2"]),
            "",
            "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
        ),
        (
            "GET",
            "/",
            values(&["value2", "value2", "value1"]),
            "",
            "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
        ),
        ("POST", "/", vec![], "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ("POST", "/", values(&["value1"]), "", "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"),
        ("POST", "/", values(&["VALUE1"]), "", "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"),
        ("POST", "/?Param1=value1", vec![], "", "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"),
        (
            "POST",
            "/",
            form.to_vec(),
            "Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
        (
            "POST",
            "/",
            vec![("X-Amz-Security-Token", token)],
            "",
            "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
        ),
    ] {
        assert_eq!(signature(method, target, &more, body), expected, "{method} {target} {more:?}");
    }
}

#[test]
fn the_whole_header_says_who_has_signed_what() {
    let lines = [
        ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
        ("host", "iam.amazonaws.com"),
        ("x-amz-date", "20150830T123600Z"),
    ];
    let request = request("GET", "/?Action=ListUsers&Version=2010-05-08", &lines, EMPTY);
    let (service, credentials, stamp) = (service(Algorithm::SigV4, "iam"), credentials(), stamp(SUITE));
    let key = SigningKey::new(&credentials, &service, &stamp).expect("a key");
    assert_eq!(
        authorization(&request, &service, &credentials, &key, &stamp).expect("a signature"),
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
         SignedHeaders=content-type;host;x-amz-date, \
         Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    );
}

#[test]
fn the_examples_of_the_manual_of_s3() {
    let written = sha256_hex(b"Welcome to Amazon S3.");
    let secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned();
    let credentials = Credentials { secret_access_key, ..credentials() };
    for (method, target, payload, more, expected) in [
        (
            "GET",
            "/test.txt",
            EMPTY,
            vec![("range", "bytes=0-9")],
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "/test%24file.text",
            &written,
            vec![("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")],
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        ("GET", "/?lifecycle", EMPTY, vec![], "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "GET",
            "/?max-keys=2&prefix=J",
            EMPTY,
            vec![],
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ] {
        let own = [
            ("host", "examplebucket.s3.amazonaws.com"),
            ("x-amz-content-sha256", payload),
            ("x-amz-date", "20130524T000000Z"),
        ];
        let request = request(method, target, &[&own[..], &more].concat(), payload);
        assert_eq!(signed(&request, &service(Algorithm::SigV4, "s3"), &credentials, &stamp(S3)), expected, "{target}");
    }
}

#[test]
fn paths_are_encoded_twice_but_for_s3() {
    let path = |name: &str, written: &str| {
        let mut out = Vec::new();
        super::path(&mut out, written.as_bytes(), &service(Algorithm::SigV4, name));
        String::from_utf8(out).expect("text")
    };
    for (written, of_s3, of_others) in [
        ("", "", "/"),
        ("/", "/", "/"),
        ("/a%20b", "/a%20b", "/a%2520b"),
        ("/a%2fb/", "/a/b/", "/a%252fb/"),
        ("/a//b/../c", "/a//b/../c", "/a/c"),
        ("/%zz%", "/%25zz%25", "/%25zz%25"),
        ("/a/..", "/a/..", "/"),
        ("/..", "/..", "/"),
        ("/a+b=c", "/a%2Bb%3Dc", "/a%2Bb%3Dc"),
    ] {
        assert_eq!((&*path("s3", written), &*path("service", written)), (of_s3, of_others), "{written}");
    }
}

#[test]
fn queries_have_one_spelling() {
    let query = |written: &str| {
        let mut out = Vec::new();
        super::query(&mut out, written.as_bytes());
        String::from_utf8(out).expect("text")
    };
    for (written, expected) in [
        ("?b=1&a=2&a=1", "a=1&a=2&b=1"),
        ("?a", "a="),
        ("?&&a=b=c&", "a=b%3Dc"),
        ("?a=x+y%20z", "a=x%20y%20z"),
        ("?a=%2f%2F", "a=%2F%2F"),
        ("?A=1&a=1&%41=0", "A=0&A=1&a=1"),
    ] {
        assert_eq!(query(written), expected, "{written}");
    }
}

#[test]
fn the_pair_of_version_4a_is_the_published_one_and_signs() {
    let (id, secret) = ("AKISORANDOMAASORANDOM", "q+jcrXGc+0zWN6uzclKVhvMmUsIfRPa4rlRandom");
    let key = private_key(id, secret, 1).expect("a key");
    assert_eq!(hex(&key), "7fd3bd010c0d9c292141c2b77bfbde1042c92e6836fff749d1269ec890fca1bd");
    let service = service(Algorithm::SigV4A, "service");
    let credentials =
        Credentials { access_key_id: id.to_owned(), secret_access_key: secret.to_owned(), session_token: None };
    let stamp = stamp(SUITE);
    let lines = [("host", "a.test"), ("x-amz-date", "20150830T123600Z"), ("x-amz-region-set", "us-east-1")];
    let request = request("GET", "/", &lines, EMPTY);
    let value = {
        let key = SigningKey::new(&credentials, &service, &stamp).expect("a key");
        authorization(&request, &service, &credentials, &key, &stamp).expect("a signature")
    };
    let (said, signature) = value.rsplit_once('=').expect("a signature");
    assert_eq!(
        said,
        format!(
            "AWS4-ECDSA-P256-SHA256 Credential={id}/20150830/service/aws4_request, \
             SignedHeaders=host;x-amz-date;x-amz-region-set, Signature"
        )
    );
    let text = format!(
        "AWS4-ECDSA-P256-SHA256\n20150830T123600Z\n20150830/service/aws4_request\n{}",
        sha256_hex(&canonical(&request, &service).0)
    );
    let signature: Vec<u8> = (0..signature.len() / 2)
        .map(|at| u8::from_str_radix(&signature[2 * at..2 * at + 2], 16).expect("two digits"))
        .collect();
    let pair = pair(id, secret).expect("a pair");
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pair.public_key().as_ref());
    assert!(public.verify(text.as_bytes(), &signature).is_ok());
    assert!(public.verify(b"another", &signature).is_err());
}

#[test]
fn times_are_written_without_signs() {
    assert_eq!((stamp(SUITE).time(), stamp(SUITE).date()), ("20150830T123600Z", "20150830"));
    assert_eq!(stamp(S3).time(), "20130524T000000Z");
    assert_eq!(stamp(951_827_696).time(), "20000229T123456Z");
}

#[test]
fn no_secret_is_shown() {
    let shown = format!("{:?}", Credentials { session_token: Some("hunter3".to_owned()), ..credentials() });
    assert_eq!(shown, "Credentials(AKIDEXAMPLE)");
}
