//! What a policy adds to a request: the same load without it and with it, one directly after the other.
//!
//! A core at its limit costs a request less and less the busier it is, and a machine changes from minute to minute, so each
//! figure is the difference of two loads of one round that follow each other. Only the closed loop is asked: at a low rate
//! sleeping and waking cost more than most policies.

mod material;
mod results;
mod sheet;
mod table;

use anyhow::{Context, Result, ensure};

use self::material::{ADDRESSES, CHAIN, TOKENS};
pub use self::{
    material::Material,
    results::{PolicyReport, PolicyTrial, measurements},
    sheet::{Policed, Sheet},
    table::{costs, summary, table},
};
use super::{
    peer::{Peer, Place, Server},
    trial::{Bench, Phase},
    workload::{self, Variation, Workload},
};
use crate::{generator::Loop, scenario::Request};

/// One policy, and what is sent to it.
pub struct PolicyWorkload {
    pub name: &'static str,
    pub title: String,
    /// What is subtracted: no policy, and nothing in the request that is there for it.
    pub plain: Workload,
    /// What the policy is asked. A proxy without the policy is asked it too where it is not the plain request.
    pub asked: Workload,
    /// What the policy must refuse, so that one that is not on by mistake gives no figure.
    pub refused: Option<Workload>,
}

/// By which they are chosen, in the order of [`all`].
pub const NAMES: [&str; 12] = [
    "policy-chain",
    "policy-basic",
    "policy-inject",
    "policy-ip-list",
    "policy-log",
    "policy-jwt-rs256",
    "policy-jwt-cached",
    "policy-jwt-hs256",
    "policy-json",
    "policy-client-id",
    "policy-cors",
    "policy-rate-limiting",
];

/// `ada:lovelace`, as [RFC 7617](https://www.rfc-editor.org/rfc/rfc7617) writes it; each peer's folder knows them.
const BASIC: &str = "Basic YWRhOmxvdmVsYWNl";

pub fn all(variation: &Variation, material: &Material) -> Vec<PolicyWorkload> {
    let plain = workload::all(variation).swap_remove(0);
    let body = variation.body_bytes.unwrap_or(16 * 1024);
    let post = |text: String| Workload { requests: vec![post_json(text)], ..plain.clone() };
    let tokens = |all: &[String]| Workload {
        requests: all.iter().map(|token| with(&plain, &[("authorization", &format!("Bearer {token}"))])).collect(),
        ..plain.clone()
    };
    let asked = |headers: &[(&str, &str)]| Workload { requests: vec![with(&plain, headers)], ..plain.clone() };
    let policy =
        |name, title: String, asked| PolicyWorkload { name, title, plain: plain.clone(), asked, refused: None };
    let refuses = |workload: PolicyWorkload| PolicyWorkload { refused: Some(plain.clone()), ..workload };
    let client = [("client_id", "bench"), ("client_secret", "lovelace")];
    let first = &material.rs256[..material.rs256.len().min(1)];
    vec![
        policy(NAMES[0], format!("chain of {CHAIN} that remove a header that is not there"), asked(&[])),
        refuses(policy(NAMES[1], "basic authentication".into(), asked(&[("authorization", BASIC)]))),
        policy(NAMES[2], "header injection, one to the request and one to the response".into(), asked(&[])),
        policy(NAMES[3], format!("IP list of {ADDRESSES} entries"), asked(&[])),
        policy(NAMES[4], "a line logged for each request".into(), asked(&[])),
        refuses(policy(
            NAMES[5],
            format!("JWT by RS256, {} tokens in turn", material.rs256.len()),
            tokens(&material.rs256),
        )),
        refuses(policy(NAMES[6], "JWT by RS256, from the cache".into(), tokens(first))),
        refuses(policy(
            NAMES[7],
            format!("JWT by HS256, {} tokens in turn", material.hs256.len()),
            tokens(&material.hs256),
        )),
        PolicyWorkload {
            plain: post(material::json(body)),
            refused: Some(post("{".into())),
            ..policy(NAMES[8], format!("JSON threat protection, POST of {body} bytes"), post(material::json(body)))
        },
        refuses(policy(NAMES[9], "client id and secret of a contract".into(), asked(&client))),
        policy(NAMES[10], "CORS, an origin that is allowed".into(), asked(&[("origin", "https://shop.example")])),
        policy(NAMES[11], "rate limit by a header, far from its limit".into(), asked(&[("x-api-key", "bench")])),
    ]
}

/// The plain request with further headers.
fn with(plain: &Workload, headers: &[(&str, &str)]) -> Request {
    let mut request = plain.requests[0].clone();
    request.headers.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    request
}

fn post_json(body: String) -> Request {
    let headers = [("content-type".to_owned(), "application/json".to_owned())].into();
    Request { method: "POST".into(), path: "/bytes/128".into(), headers, body: Some(body), ..Request::default() }
}

/// What all rounds share.
pub struct Policies {
    material: Material,
    workloads: Vec<PolicyWorkload>,
}

impl Policies {
    /// `asked`: by their names.
    ///
    /// # Errors
    /// No key could be made.
    pub fn make(variation: &Variation, asked: &[&str]) -> Result<Self> {
        let tokens = if asked.iter().any(|name| name.starts_with("policy-jwt")) { TOKENS } else { 0 };
        let material = Material::make(tokens)?;
        let mut workloads = all(variation, &material);
        workloads.retain(|workload| asked.contains(&workload.name));
        Ok(Self { material, workloads })
    }

    pub fn workloads(&self) -> &[PolicyWorkload] {
        &self.workloads
    }

    /// Puts every workload on one peer that is not left out of it. Figures go into the reports as they come. Returns what
    /// failed.
    ///
    /// # Errors
    /// The peer does not start even without a policy.
    pub fn round(
        &self,
        bench: &Bench,
        peer: &Peer,
        place: &Place<'_>,
        reports: &mut [PolicyReport],
    ) -> Result<Vec<String>> {
        let mut failed = Vec::new();
        let asked: Vec<usize> =
            (0..reports.len()).filter(|&index| !reports[index].left_out.contains_key(&peer.name)).collect();
        if asked.is_empty() {
            return Ok(failed);
        }
        let without = peer.start(place, super::FIRST_REQUEST)?;
        for index in asked {
            match self.trial(bench, peer, place, &without, &self.workloads[index]) {
                Ok(trial) => reports[index].trials.entry(peer.name.clone()).or_default().push(trial),
                Err(error) => failed.push(format!("{}: {error:#}", self.workloads[index].name)),
            }
        }
        Ok(failed)
    }

    fn trial(
        &self,
        bench: &Bench,
        peer: &Peer,
        place: &Place<'_>,
        without: &Server,
        workload: &PolicyWorkload,
    ) -> Result<PolicyTrial> {
        let PolicyWorkload { plain, asked, .. } = workload;
        let measure = |load: &Workload, server: &Server| -> Result<Phase> {
            Ok(bench.phase(load, server.address, server.tree(), Loop::Closed)?.1)
        };
        let policed = Policed { name: workload.name, material: &self.material };
        let with = peer.start(&Place { policed: Some(policed), ..*place }, &first_request(asked)?)?;
        workload.check_refusal(&with)?;
        Ok(PolicyTrial {
            plain: measure(plain, without).context("without the policy")?,
            asked: if plain.requests == asked.requests { None } else { Some(measure(asked, without)?) },
            with: measure(asked, &with).context("with the policy")?,
        })
    }
}

impl PolicyWorkload {
    /// # Errors
    /// The policy lets pass what it should not.
    fn check_refusal(&self, server: &Server) -> Result<()> {
        let Some(refused) = &self.refused else { return Ok(()) };
        let status = server.ask(&first_request(refused)?, None)?;
        ensure!((400..500).contains(&status), "what the policy should refuse is answered with {status}");
        Ok(())
    }
}

/// As bytes; no peer looks at the host.
fn first_request(workload: &Workload) -> Result<Vec<u8>> {
    Ok(workload.mix("127.0.0.1")?.request(0).bytes.clone())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;
    use crate::peers::peer::folders;

    #[test]
    fn each_has_its_name_and_can_be_written() {
        let material = Material::make(3).expect("keys");
        let all = all(&Variation::default(), &material);
        assert_eq!(all.iter().map(|workload| workload.name).collect::<Vec<_>>(), NAMES);
        for workload in &all {
            let loads = [Some(&workload.plain), Some(&workload.asked), workload.refused.as_ref()];
            for load in loads.into_iter().flatten() {
                assert!(!load.tls && load.mix("127.0.0.1:80").is_ok(), "{}", workload.name);
            }
            assert_eq!(workload.plain.name, "keep-alive");
        }
        let tokens = |index: usize| all[index].asked.requests.len();
        assert_eq!([tokens(5), tokens(6), tokens(7)], [3, 1, 3]);
        assert!(all[8].plain.requests == all[8].asked.requests && all[8].plain.requests[0].method == "POST");
    }

    #[test]
    fn every_folder_has_each_of_them_or_says_why_not() {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let known: BTreeSet<&str> = NAMES.into();
        for folder in folders(&peers, &[]).expect("the folder of peers") {
            let sheet = Sheet::read(&folder).expect("a sheet, or none");
            let names: BTreeSet<&str> = sheet.names().into_iter().collect();
            let all = names == known || names.is_empty() && (sheet.is_left_out() || folder.ends_with("relay"));
            assert!(all, "{}: {names:?}", folder.display());
        }
    }

    #[test]
    fn no_place_of_ours_is_left_in_a_peers_texts() {
        let material = Material::make(0).expect("keys");
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        for folder in folders(&peers, &[]).expect("the folder of peers") {
            let sheet = Sheet::read(&folder).expect("a sheet, or none");
            for name in sheet.names() {
                let texts = sheet.texts(Some(Policed { name, material: &material })).expect("on the sheet");
                for text in texts.places.values().chain(texts.files.values()) {
                    let left = text.replace("@WORK@", "").replace("\"@type\"", "");
                    assert!(!left.contains('@'), "{} {name}: {left}", folder.display());
                }
            }
        }
    }
}
