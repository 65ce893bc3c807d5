//! AWS request signature: signs what goes to a service of AWS, with Signature Version 4 or 4A.
//!
//! The body is part of what is signed, so it is read first; where that is not wanted the signature says that it leaves the body
//! out, which not every service takes.

#[cfg(test)]
mod tests;

use std::rc::Rc;

use serde::Deserialize;

use super::{
    Answers, Body, Category, ConfigError, Core, Exchange, Fault, Field, Flow, LocalResponse, Need, Needs, Policy,
    Reply, Side, Site, Turn,
    aws::{
        self, Signer, Who,
        credentials::{Held, Inline, Mode, Provider, Written},
        signing::{self, Algorithm, Service, UNSIGNED_PAYLOAD},
    },
};
use crate::{calls::Waits, document::node::Node};

const NAME: &str = "native-aws-signature-flex";
/// What others on the way change or add.
const NEVER_SIGNED: [&[u8]; 3] = [b"x-forwarded-for", b"x-forwarded-proto", b"x-amzn-trace-id"];

/// As the operator writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    service_name: String,
    region: String,
    signing_algorithm: SigningAlgorithm,
    authentication_mode: Mode,
    #[serde(default)]
    use_unsigned_payload: bool,
    match_excluded_headers: Option<Vec<Node>>,
    credentials_file_provider: Option<FileProvider>,
    inline_credential_provider: Option<Inline>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
enum SigningAlgorithm {
    #[serde(rename = "AWS_SIGV4")]
    AwsSigV4,
    #[serde(rename = "AWS_SIGV4A")]
    AwsSigV4A,
    #[serde(rename = "sigv4")]
    SigV4,
    #[serde(rename = "sigv4a")]
    SigV4A,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileProvider {
    credentials_data_source: DataSource,
    profile: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DataSource {
    filename: String,
}

#[derive(Debug)]
pub struct NativeAwsSignature {
    signer: Signer,
    is_unsigned: bool,
    excluded: Box<[Matcher]>,
}

/// Some names of headers, as Envoy matches strings.
#[derive(Debug)]
struct Matcher {
    way: Way,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Exact,
    Prefix,
    Suffix,
    Contains,
}

const ANSWERS: [Answers; 2] = [
    Answers {
        status: 503,
        reason: "aws_no_credentials",
        when: "the container that the credentials are asked of gives none",
    },
    Answers {
        status: 501,
        reason: "aws_signed_chunks",
        when: "the client has signed its body in chunks (`x-amz-content-sha256: STREAMING-...`), with a key that is not ours",
    },
];
/// What a client says of a body that it sends in chunks of AWS's own, within those of HTTP.
const STREAMING: &[u8] = b"STREAMING-";
/// Such a body without signatures: its checksum comes behind it, and the signature of the head leaves it out.
const STREAMING_UNSIGNED: &[u8] = b"STREAMING-UNSIGNED-PAYLOAD-TRAILER";

pub struct State {
    aws: aws::State,
    none: Rc<LocalResponse>,
    signed_chunks: Rc<LocalResponse>,
    failed: Rc<LocalResponse>,
}

/// The credentials that the request waits for.
#[derive(Default)]
pub struct Kept(Option<Waits<Held>>);

impl Policy for NativeAwsSignature {
    type Config = Config;
    type State = State;
    type PerExchange = Kept;

    const CATEGORY: Option<Category> = Some(Category::Security);
    const ANSWERS: &'static [Answers] = &ANSWERS;
    const FIELDS: &'static [Field] = &[
        Field::new("serviceName", "Service", "By AWS's name for it: `s3`, `execute-api`, `lambda`."),
        Field::new(
            "region",
            "Region",
            "`us-east-1`; with `AWS_SIGV4A` a list with commas, in which `*` stands for any.",
        ),
        Field::new("signingAlgorithm", "Algorithm", "Version 4, or 4A, which counts in more than one region."),
        Field::new(
            "authenticationMode",
            "Credentials",
            "`static`: those of `inlineCredentialProvider`; `profile`: of a file; `default`: of the environment, a file or \
             the container, whichever has some.",
        ),
        Field::new("useUnsignedPayload", "Unsigned body", "The body is not read, and not signed.").default("false"),
        Field::new(
            "matchExcludedHeaders",
            "Headers left out",
            "Names, or `{exact: name}`, `{prefix: ...}`, `{suffix: ...}`, `{contains: ...}`: these are not signed.",
        ),
        Field::new("credentialsFileProvider.credentialsDataSource.filename", "File name", "Its path; `~` is `HOME`.")
            .when("authenticationMode", "profile"),
        Field::new("credentialsFileProvider.profile", "Profile", "Its name in the file.")
            .default("default")
            .when("authenticationMode", "profile"),
        Field::new("inlineCredentialProvider.accessKeyId", "Access key id", "Of the key.")
            .when("authenticationMode", "static"),
        Field::new("inlineCredentialProvider.secretAccessKey", "Secret access key", "The key.")
            .sensitive()
            .when("authenticationMode", "static"),
        Field::new("inlineCredentialProvider.sessionToken", "Session token", "Of credentials that run out.")
            .sensitive()
            .when("authenticationMode", "static"),
    ];

    fn remarks(config: &Config) -> Vec<Fault> {
        let profile = ("credentialsFileProvider", config.credentials_file_provider.is_some());
        config
            .authentication_mode
            .remarks(profile, ("inlineCredentialProvider", config.inline_credential_provider.is_some()))
    }

    fn compile(config: Config, site: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        let algorithm = match config.signing_algorithm {
            SigningAlgorithm::AwsSigV4 | SigningAlgorithm::SigV4 => Algorithm::SigV4,
            SigningAlgorithm::AwsSigV4A | SigningAlgorithm::SigV4A => Algorithm::SigV4A,
        };
        let (name, region) = (config.service_name.trim(), config.region.trim());
        for (field, text) in [("serviceName", name), ("region", region)] {
            let is_name =
                |byte: u8| byte.is_ascii_graphic() && !b"/,".contains(&byte) || is_of_set(field, algorithm, byte);
            if text.is_empty() || !text.bytes().all(is_name) {
                error.add(Fault::at(field, "not a name that AWS has"));
            }
        }
        let file = config.credentials_file_provider.as_ref();
        let written = Written {
            mode: config.authentication_mode,
            inline: config.inline_credential_provider,
            inline_field: "inlineCredentialProvider",
            file: file.map(|file| file.credentials_data_source.filename.as_str()),
            file_field: "credentialsFileProvider.credentialsDataSource.filename",
            profile: file.and_then(|file| file.profile.as_deref()),
            profile_field: "credentialsFileProvider",
        };
        let provider = Provider::compile(written, NAME, site, &mut error);
        let excluded = config.match_excluded_headers.unwrap_or_default();
        let excluded = excluded.iter().enumerate().filter_map(|(at, node)| match Matcher::read(node) {
            Ok(matcher) => Some(matcher),
            Err(why) => {
                error.add(Fault::at(format!("matchExcludedHeaders[{at}]"), why));
                None
            }
        });
        let excluded = excluded.collect();
        let Some(provider) = provider else { return Err(error) };
        let service = Service { algorithm, region: region.to_owned(), name: name.to_owned() };
        error.or(Self { signer: Signer { provider, service }, is_unsigned: config.use_unsigned_payload, excluded })
    }

    fn state(&self, core: &Core) -> State {
        let [none, signed_chunks] = ["Service Unavailable", "Not Implemented"];
        let answer = |at: usize, text| Rc::new(LocalResponse::error_json(ANSWERS[at].status, text, ANSWERS[at].reason));
        State {
            aws: aws::State::new(core),
            none: answer(0, none),
            signed_chunks: answer(1, signed_chunks),
            failed: LocalResponse::failed_policy().into(),
        }
    }

    fn needs(&self) -> Needs {
        Needs { request: if self.is_unsigned { Need::None } else { Need::Buffer }, ..Needs::NONE }
    }

    fn on_request(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        match self.signer.who(&turn.state.aws) {
            Who::Waits(waits, question) => {
                *turn.kept = Kept(Some(waits));
                Flow::Wait(question)
            }
            who => self.finish(turn.state, who, exchange),
        }
    }

    fn on_reply(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>, _: Reply) -> Flow {
        let who = turn.kept.0.take().map_or(Who::None, |waits| aws::told(waits.stands()));
        self.finish(turn.state, who, exchange)
    }
}

impl NativeAwsSignature {
    fn finish(&self, state: &State, who: Who, exchange: &mut Exchange<'_>) -> Flow {
        let Who::Known(known) = who else { return Flow::Respond(state.none.clone()) };
        let said = exchange.request_fields().get(aws::CONTENT_SHA256).unwrap_or_default();
        let payload = match (said.starts_with(STREAMING), self.is_unsigned) {
            (true, _) if said == STREAMING_UNSIGNED => String::from_utf8_lossy(said).into_owned(),
            (true, _) => return Flow::Respond(state.signed_chunks.clone()),
            (false, true) => UNSIGNED_PAYLOAD.to_owned(),
            (false, false) => signing::sha256_hex_of(exchange.body(Side::Request).into_iter().flat_map(Body::pieces)),
        };
        if !self.is_unsigned {
            exchange.tell_request_length();
        }
        let signs = |name: &[u8]| {
            let is_never = NEVER_SIGNED.iter().any(|never| name.eq_ignore_ascii_case(never));
            !is_never && !self.excluded.iter().any(|matcher| matcher.is_of(name))
        };
        match self.signer.sign(&state.aws, &known, exchange, &payload, signs) {
            Ok(()) => Flow::Continue,
            Err(_) => Flow::Respond(state.failed.clone()),
        }
    }
}

/// What a set of regions has besides names.
fn is_of_set(field: &str, algorithm: Algorithm, byte: u8) -> bool {
    field == "region" && algorithm == Algorithm::SigV4A && matches!(byte, b',' | b'*')
}

impl Matcher {
    fn read(node: &Node) -> Result<Self, String> {
        const WAYS: [(&str, Way); 4] =
            [("exact", Way::Exact), ("prefix", Way::Prefix), ("suffix", Way::Suffix), ("contains", Way::Contains)];
        let text_of = |node: &Node| node.as_str().map(|text| text.trim().to_ascii_lowercase());
        let (way, text) = match (node.as_str(), node.entries()) {
            (Some(_), _) => (Way::Exact, text_of(node)),
            (None, [entry]) => {
                let way = WAYS.iter().find(|(name, _)| entry.key.eq_ignore_ascii_case(name));
                let (_, way) = way.ok_or("`exact`, `prefix`, `suffix` or `contains` is expected")?;
                (*way, text_of(&entry.value))
            }
            (None, _) => {
                return Err("a name, or one of `exact`, `prefix`, `suffix`, `contains`, is expected".to_owned());
            }
        };
        match text {
            Some(text) if !text.is_empty() => Ok(Self { way, text }),
            _ => Err("must be a text, and not empty".to_owned()),
        }
    }

    /// Names of headers have no case.
    fn is_of(&self, name: &[u8]) -> bool {
        let (name, text) = (name.to_ascii_lowercase(), self.text.as_bytes());
        match self.way {
            Way::Exact => name == text,
            Way::Prefix => name.starts_with(text),
            Way::Suffix => name.ends_with(text),
            Way::Contains => name.windows(text.len()).any(|window| window == text),
        }
    }
}
