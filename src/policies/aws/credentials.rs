//! Whom the gateway is to AWS: written in the configuration, in the environment or in a file of profiles, or asked of the
//! container that it runs in, again before they run out.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;

use super::{profiles, signing::Credentials};
use crate::{
    calls::{self, Answer, Call, Calls, Destination, Lead, Lifetime, Renewed},
    document::address::WebAddress,
    http::{bytes::is_field_value, head::Fields},
    policies::{ConfigError, Fault, Site, asking::object},
    telemetry::fault,
};

/// Where a container of ECS asks.
const CONTAINER: &str = "http://169.254.170.2";
const TIME_MAX: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// A larger file is no list of profiles.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// What does not say how long it is good for is asked for again then.
const LIFETIME_ASSUMED: Duration = Duration::from_secs(900);
/// A signature counts for five minutes.
const MARGIN_MAX: Duration = Duration::from_secs(300);

/// Where they come from.
#[derive(Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// The environment, the file of profiles, the container: the first of them that has some.
    #[default]
    Default,
    /// One profile of a file.
    Profile,
    /// The configuration.
    Static,
}

impl Mode {
    /// Remarks on what is written for another mode: the profile and the inline credentials, by their fields.
    pub fn remarks(self, profile: (&str, bool), inline: (&str, bool)) -> Vec<Fault> {
        let written = [(profile, Self::Profile, "profile"), (inline, Self::Static, "static")];
        let idle = written.into_iter().filter(|((_, is_written), mode, _)| *is_written && self != *mode);
        idle.map(|((field, _), _, name)| {
            Fault::at(field, format!("has an effect only with `authenticationMode: {name}`"))
        })
        .collect()
    }
}

/// As they stand in the configuration.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inline {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
}

/// What a policy says of them, and what its fields are called.
pub struct Written<'a> {
    pub mode: Mode,
    pub inline: Option<Inline>,
    pub inline_field: &'static str,
    pub file: Option<&'a str>,
    pub file_field: &'static str,
    pub profile: Option<&'a str>,
    pub profile_field: &'static str,
}

/// Who has them.
#[derive(Debug)]
pub enum Provider {
    Known(Arc<Credentials>),
    Container(Arc<Container>),
}

/// Asked over HTTP.
pub struct Container {
    destination: Arc<Destination>,
    /// There is a secret in it.
    authorization: Option<String>,
    policy: &'static str,
    binding: String,
    pub held: Renewed<Arc<Credentials>, NoCredentials>,
}

/// There are none; why is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCredentials;

pub type Held = calls::Held<Arc<Credentials>, NoCredentials>;

impl Provider {
    /// What is wrong goes to `error`.
    pub fn compile(
        written: Written<'_>,
        policy: &'static str,
        site: &mut Site<'_>,
        error: &mut ConfigError,
    ) -> Option<Self> {
        match written.mode {
            Mode::Static => match written.inline {
                Some(inline) => inline.compile(written.inline_field, error).map(|known| Self::Known(known.into())),
                None => {
                    error.add(Fault::at(written.inline_field, "is required with `authenticationMode: static`"));
                    None
                }
            },
            Mode::Profile => {
                let path = match written.file {
                    Some(path) => Some(expanded(path, site)),
                    None => file_of_profiles(site),
                };
                let profile = written.profile.unwrap_or("default");
                let found = path.ok_or_else(|| "no home directory to look for `.aws/credentials` in".to_owned());
                match found.and_then(|path| profile_of(&path, profile, site)) {
                    Ok(known) => Some(Self::Known(known.into())),
                    Err(why) => {
                        let field = if written.file.is_some() { written.file_field } else { written.profile_field };
                        error.add(Fault::at(field, why));
                        None
                    }
                }
            }
            Mode::Default => Self::of_environment(policy, site).unwrap_or_else(|why| {
                error.add(Fault::at("authenticationMode", why));
                None
            }),
        }
    }

    fn of_environment(policy: &'static str, site: &mut Site<'_>) -> Result<Option<Self>, String> {
        if let (Some(id), Some(secret)) = (site.variable("AWS_ACCESS_KEY_ID"), site.variable("AWS_SECRET_ACCESS_KEY")) {
            let known = Credentials {
                access_key_id: id,
                secret_access_key: secret,
                session_token: site.variable("AWS_SESSION_TOKEN"),
            };
            return check(&known).map(|()| Some(Self::Known(known.into())));
        }
        let profile = site.variable("AWS_PROFILE");
        if let Some(path) = file_of_profiles(site).filter(|path| path.is_file()) {
            match profile_of(&path, profile.as_deref().unwrap_or("default"), site) {
                Ok(known) => return Ok(Some(Self::Known(known.into()))),
                Err(why) if profile.is_some() => return Err(why),
                // A file without a default profile says nothing.
                Err(_) => {}
            }
        }
        let address = match (
            site.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
            site.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ) {
            (Some(path), _) => format!("{CONTAINER}{path}"),
            (None, Some(address)) => address,
            (None, None) => {
                return Err("no credentials: neither `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, nor a file of \
                            profiles, nor `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` or `..._FULL_URI`"
                    .to_owned());
            }
        };
        let address = WebAddress::parse(&address).map_err(|why| format!("the container's credentials: {why}"))?;
        let authorization = site.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN");
        if authorization.as_ref().is_some_and(|token| !is_field_value(token.as_bytes())) {
            return Err("`AWS_CONTAINER_AUTHORIZATION_TOKEN` is not a header value".to_owned());
        }
        let container = Container {
            destination: site.destination(address),
            authorization,
            policy,
            binding: site.policy().name.clone(),
            held: Renewed::default(),
        };
        Ok(Some(Self::Container(Arc::new(container))))
    }
}

impl Inline {
    fn compile(self, field: &str, error: &mut ConfigError) -> Option<Credentials> {
        let Self { access_key_id, secret_access_key, session_token } = self;
        let known = Credentials {
            access_key_id: access_key_id.trim().to_owned(),
            secret_access_key: secret_access_key.trim().to_owned(),
            session_token: session_token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
        };
        check(&known).map_err(|why| error.add(Fault::at(field, why))).ok()?;
        Some(known)
    }
}

/// Whether they can stand in a signature and its headers.
fn check(known: &Credentials) -> Result<(), String> {
    let Credentials { access_key_id: id, secret_access_key: secret, session_token } = known;
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    match () {
        () if !is_word(id) || id.contains(['/', ',']) => Err("`accessKeyId` is empty, or no id".to_owned()),
        () if !is_word(secret) => Err("`secretAccessKey` is empty, or no key".to_owned()),
        () if !session_token.as_deref().is_none_or(is_word) => Err("`sessionToken` is no token".to_owned()),
        () => Ok(()),
    }
}

fn file_of_profiles(site: &mut Site<'_>) -> Option<PathBuf> {
    match site.variable("AWS_SHARED_CREDENTIALS_FILE") {
        Some(path) => Some(expanded(&path, site)),
        None => site.variable("HOME").map(|home| Path::new(&home).join(".aws/credentials")),
    }
}

fn expanded(path: &str, site: &mut Site<'_>) -> PathBuf {
    match (path.strip_prefix("~/"), site.variable("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.into(),
    }
}

fn profile_of(path: &Path, profile: &str, site: &mut Site<'_>) -> Result<Credentials, String> {
    let shown = path.display();
    let size = path.metadata().map_err(|error| format!("{shown}: {error}"))?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("{shown}: more than {FILE_BYTES_MAX} bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
    site.read(&text);
    let found = profiles::find(&text, profile).ok_or_else(|| format!("{shown}: no keys of a profile `{profile}`"))?;
    check(&found).map_err(|why| format!("{shown}: profile `{profile}`: {why}"))?;
    Ok(found)
}

impl Container {
    /// Has them asked for anew while they are good, by whoever comes first.
    pub fn renew(self: &Arc<Self>, held: &Held, calls: &Calls, now: Instant) {
        if let Some(lead) = self.held.renew(held, now) {
            self.ask(lead, calls, false);
        }
    }

    /// `is_needed`: there are none.
    pub fn ask(self: &Arc<Self>, lead: Lead<Held>, calls: &Calls, is_needed: bool) {
        let mut headers = Fields::default();
        headers.append(b"accept", b"application/json");
        if let Some(token) = &self.authorization {
            headers.append(b"authorization", token.as_bytes());
        }
        let call = Call {
            destination: self.destination.clone(),
            policy: self.policy,
            binding: self.binding.clone(),
            method: "GET",
            target: self.destination.address.target.clone(),
            headers,
            body: Vec::new(),
            time_max: TIME_MAX,
            answer_bytes_max: ANSWER_BYTES_MAX,
            idempotent: true,
        };
        let container = self.clone();
        calls.ask(call, move |answer| {
            let found = read(answer, SystemTime::now());
            if let Err(reason) = &found {
                let (policy, from) = (&container.binding, container.destination.origin());
                tracing::warn!(policy, reason, "no credentials from {from}");
            }
            let found = found.map(|(known, lifetime)| (Arc::new(known), lifetime)).map_err(|_| NoCredentials);
            container.held.settle(lead, found, is_needed, Instant::now());
        });
    }

    /// How long an exchange waits for them: longer than the call, which ends in time.
    pub const WAIT_MAX: Duration = Duration::from_secs(TIME_MAX.as_secs() + 1);
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<String>,
}

/// `Err`: the reason why there are none.
fn read(answer: Result<Answer, fault::Fault>, now: SystemTime) -> Result<(Credentials, Lifetime), &'static str> {
    let answer = answer.map_err(|fault| fault.reason)?;
    if answer.status != 200 {
        return Err("refused");
    }
    let Given { access_key_id, secret_access_key, token, expiration } = object(&answer.body).ok_or("malformed")?;
    let known =
        Credentials { access_key_id, secret_access_key, session_token: token.filter(|token| !token.is_empty()) };
    check(&known).map_err(|_| "malformed")?;
    let good = match expiration {
        None => LIFETIME_ASSUMED,
        Some(text) => {
            let end = UNIX_EPOCH + Duration::from_secs(instant(&text).ok_or("malformed")?);
            end.duration_since(now).map_err(|_| "expired")?
        }
    };
    Ok((known, Lifetime { good, serves: good - MARGIN_MAX.min(good / 10) }))
}

/// `2015-08-30T12:36:00Z` (RFC 3339, in UTC), with parts of a second or without, in seconds since 1970.
fn instant(text: &str) -> Option<u64> {
    let text = ["Z", "+00:00", "-00:00"].iter().find_map(|utc| text.strip_suffix(utc))?;
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (date, time) = whole.split_once('T').filter(|_| is_digits(part))?;
    let numbers = |text: &str, separator: char, lengths: [usize; 3]| {
        let mut parts = text.split(separator);
        let read = lengths.map(|length| {
            let part = parts.next().filter(|part| part.len() == length && is_digits(part))?;
            part.parse::<u64>().ok()
        });
        parts.next().is_none().then_some([read[0]?, read[1]?, read[2]?])
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let is_time = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    let is_time = is_time && hour < 24 && minute < 60 && second < 61;
    // Days of a year that begins in March, so that the day of leap years comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    is_time.then(|| (days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Nothing of a secret.
impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container").field("from", &self.destination).field("held", &self.held).finish()
    }
}
