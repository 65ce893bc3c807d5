//! Who may come, or may not, by IP address.
//!
//! Both lists refuse a request whose address cannot be told: whoever is blocked would else leave the header out.

pub mod ranges;

use std::rc::Rc;

use serde::Deserialize;

use self::ranges::{Network, Ranges, first_address};
use super::{
    Answers, Category, ConfigError, Core, Exchange, Fault, Field, Flow, LocalResponse, Policy, Site, Turn,
    reading::{Reading, template},
};
use crate::expression::{Bindings, Expression, Template};

const NOT_LISTED: Answers = Answers {
    status: 403,
    reason: "ip_not_allowed",
    when: "the address is not on the list, or there is none that can be read",
};
const LISTED: Answers = Answers {
    status: 403,
    reason: "ip_blocked",
    when: "the address is on the list, or there is none that can be read",
};

/// As the operator writes it, for either list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    ips: Vec<String>,
    /// Where the client's address stands.
    #[serde(default = "forwarded_for")]
    ip_expression: String,
}

const EXPRESSION: &str = "ipExpression";

fn forwarded_for() -> String {
    "#[attributes.headers['x-forwarded-for']]".into()
}

const FIELDS: &[Field] = &[
    Field::new(
        "ips",
        "Addresses",
        "Addresses and networks. One that cannot be read makes the policy invalid: its requests get 503.",
    ),
    Field::new(EXPRESSION, "Source of the address", "Where the client's address stands.")
        .default("#[attributes.headers['x-forwarded-for']]")
        .expression(),
];

/// The list, and how the address to look up is read.
#[derive(Debug)]
struct List {
    ranges: Ranges,
    expression: Expression,
}

impl List {
    fn compile(config: &Config) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        let mut networks = Vec::with_capacity(config.ips.len());
        for (at, entry) in config.ips.iter().enumerate() {
            match Network::parse(entry) {
                Ok(network) => networks.push(network),
                Err(fault) => error.add(Fault::at(format!("ips[{at}]"), fault.to_string())),
            }
        }
        let expression = match template(EXPRESSION, &config.ip_expression, &Bindings::request(), &mut error) {
            Some(Template::Expression(expression)) => expression,
            Some(Template::Literal(_)) => {
                // It would be one answer for all, and on an allowlist perhaps a yes.
                error.add(Fault::at(EXPRESSION, "an expression stands in `#[` and `]`"));
                return Err(error);
            }
            None => return Err(error),
        };
        error.or(Self { ranges: Ranges::new(networks), expression })
    }

    /// Whether the client's address is on the list; `None` where there is no address.
    fn has(&self, exchange: &Exchange<'_>) -> Option<bool> {
        let reading = Reading::request(exchange);
        let text = self.expression.evaluate(&reading).ok()?.into_text().ok()?;
        first_address(&text).map(|address| self.ranges.contains(address))
    }
}

/// `of_nobody` is what a list without entries comes to.
fn remarks(config: &Config, of_nobody: &str) -> Vec<Fault> {
    let mut remarks = Vec::new();
    if config.ips.is_empty() {
        remarks.push(Fault::at("ips", of_nobody));
    }
    let Ok(Template::Expression(expression)) = Template::compile(&config.ip_expression, &Bindings::request()) else {
        return remarks;
    };
    remarks.extend(expression.remarks().iter().map(|remark| Fault::at(EXPRESSION, remark.text.clone())));
    let text = config.ip_expression.to_ascii_lowercase();
    if !expression.needs().attributes && !expression.needs().headers {
        remarks.push(Fault::at(EXPRESSION, "reads nothing of where a request comes from: the same for every client"));
    } else if !["x-forwarded-for", "remoteaddress"].iter().any(|known| text.contains(known)) {
        let text = "the client writes this itself, unless a proxy before the gateway does: it can name any address";
        remarks.push(Fault::at(EXPRESSION, text));
    }
    remarks
}

fn refusal(answer: Answers) -> Rc<LocalResponse> {
    Rc::new(LocalResponse::error_json(answer.status, "IP is rejected", answer.reason))
}

/// Lets the listed pass, and nobody else.
#[derive(Debug)]
pub struct IpAllowlist(List);

impl Policy for IpAllowlist {
    type Config = Config;
    /// The refusal, made once.
    type State = Rc<LocalResponse>;
    type PerExchange = ();

    const CATEGORY: Option<Category> = Some(Category::Security);
    const FIELDS: &'static [Field] = FIELDS;
    const ANSWERS: &'static [Answers] = &[NOT_LISTED];

    fn remarks(config: &Config) -> Vec<Fault> {
        remarks(config, "empty: nobody passes")
    }

    fn compile(config: Config, _: &mut Site<'_>) -> Result<Self, ConfigError> {
        List::compile(&config).map(Self)
    }

    fn state(&self, _: &Core) -> Self::State {
        refusal(NOT_LISTED)
    }

    fn on_request(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        match self.0.has(exchange) {
            Some(true) => Flow::Continue,
            Some(false) | None => Flow::Respond(turn.state.clone()),
        }
    }
}

/// Lets everybody pass but the listed.
#[derive(Debug)]
pub struct IpBlocklist(List);

impl Policy for IpBlocklist {
    type Config = Config;
    /// The refusal, made once.
    type State = Rc<LocalResponse>;
    type PerExchange = ();

    const CATEGORY: Option<Category> = Some(Category::Security);
    const FIELDS: &'static [Field] = FIELDS;
    const ANSWERS: &'static [Answers] = &[LISTED];

    fn remarks(config: &Config) -> Vec<Fault> {
        remarks(config, "empty: nobody is blocked")
    }

    fn compile(config: Config, _: &mut Site<'_>) -> Result<Self, ConfigError> {
        List::compile(&config).map(Self)
    }

    fn state(&self, _: &Core) -> Self::State {
        refusal(LISTED)
    }

    fn on_request(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        match self.0.has(exchange) {
            Some(false) => Flow::Continue,
            Some(true) | None => Flow::Respond(turn.state.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::testing;

    /// Why a request with these lines is refused by a policy.
    fn refused<P>(config: &str, lines: &[(&str, &str)]) -> Option<&'static str>
    where
        P: Policy<State = Rc<LocalResponse>, PerExchange = ()>,
    {
        let policy = testing::compile::<P>(config).unwrap_or_else(|faults| panic!("{config}: {faults:?}"));
        let state = policy.state(&Core::default());
        let mut trial = testing::Trial::new("GET", "/?ip=192.0.2.9", lines);
        let flow = trial.with(0, |exchange| policy.on_request(Turn { state: &state, kept: &mut () }, exchange));
        testing::answer(flow).map(|answer| {
            assert_eq!((answer.status, &*answer.body), (403, &br#"{"error":"IP is rejected"}"#[..]));
            answer.reason
        })
    }

    /// Each list's say, for the address of a request whose `x-forwarded-for` has these lines.
    fn check(values: &[&str], allowed: bool, blocked: bool) {
        let lines: Vec<_> = values.iter().map(|value| ("X-Forwarded-For", *value)).collect();
        let config = "{ips: [192.0.2.0/24, '2001:db8::/32', 10]}";
        let expected = (!allowed).then_some("ip_not_allowed");
        assert_eq!(refused::<IpAllowlist>(config, &lines), expected, "allowlist, {values:?}");
        assert_eq!(refused::<IpBlocklist>(config, &lines), blocked.then_some("ip_blocked"), "blocklist, {values:?}");
    }

    #[test]
    fn the_listed_pass_or_are_blocked() {
        for values in [
            &["192.0.2.7"][..],
            &["192.0.2.7:443, 198.51.100.1"],
            &["192.0.2.7", "198.51.100.1"],
            &["[2001:db8::1]:80"],
            &["::ffff:10.1.2.3"],
            &["host/10.0.0.1"],
        ] {
            check(values, true, true);
        }
        for values in [&["198.51.100.1"][..], &["198.51.100.1, 192.0.2.7"], &["198.51.100.1", "192.0.2.7"], &["::1"]] {
            check(values, false, false);
        }
    }

    #[test]
    fn without_an_address_both_refuse() {
        check(&[], false, true);
        for value in ["", "unknown", "192.0.2", ", 192.0.2.7", "192.0.2.7 192.0.2.8", "\u{1f600}", "192.0.2.7\u{a0}x"] {
            check(&[value], false, true);
        }
        check(&[&",".repeat(50_000)], false, true);
        check(&[&"192.0.2.7".repeat(6_000)], false, true);
        check(&["", "192.0.2.7"], false, true);
    }

    #[test]
    fn bytes_that_are_no_text_are_no_address() {
        let policy = testing::compile::<IpBlocklist>("{ips: []}").expect("valid");
        let mut trial = testing::Trial::new("GET", "/", &[]);
        trial.request.fields.append(b"x-forwarded-for", b"192.0.2.7\xff\xfe");
        let state = policy.state(&Core::default());
        let flow = trial.with(0, |exchange| policy.on_request(Turn { state: &state, kept: &mut () }, exchange));
        assert!(matches!(flow, Flow::Respond(_)));
    }

    #[test]
    fn the_address_is_where_the_expression_says() {
        let reads = |expression: &str| format!("{{ips: [192.0.2.1], ipExpression: \"{expression}\"}}");
        let lines = [("X-Forwarded-For", "198.51.100.1, 192.0.2.1"), ("X-Real-Ip", "192.0.2.1")];
        // The peer of a trial is 192.0.2.1:40000.
        assert_eq!(refused::<IpAllowlist>(&reads("#[attributes.remoteAddress]"), &[]), None);
        assert_eq!(refused::<IpAllowlist>(&reads("#[attributes.headers['X-Real-IP']]"), &lines), None);
        let last = "#[splitBy(attributes.headers['x-forwarded-for'], ',')[-1]]";
        assert_eq!(refused::<IpAllowlist>(&reads(last), &lines), None);
        assert_eq!(refused::<IpBlocklist>(&reads("#[attributes.clientAddress]"), &lines), Some("ip_blocked"));
        // What fails, and what is no text, is no address.
        assert_eq!(refused::<IpBlocklist>(&reads("#[attributes.headers['a'] ++ 'b']"), &lines), Some("ip_blocked"));
        assert_eq!(refused::<IpBlocklist>(&reads("#[attributes.headers]"), &lines), Some("ip_blocked"));
    }

    #[test]
    fn one_bad_entry_makes_the_policy_invalid() {
        let faults = |text: &str| testing::faults::<IpBlocklist>(text);
        let text =
            "neither an IP address, nor a network such as `192.168.0.0/16`, nor leading octets such as `192.168`";
        assert_eq!(
            faults("{ips: [10.0.0.1, 10.0.0.256, '', 1.2.3.4/99]}"),
            [1, 2, 3].map(|at| format!("config.ips[{at}]: {text}"))
        );
        assert_eq!(faults("{}").len(), 1);
        for expression in ["x-forwarded-for", "192.0.2.1", "''"] {
            assert_eq!(
                faults(&format!("{{ips: [], ipExpression: {expression}}}")).last().map(String::as_str),
                Some("config.ipExpression: an expression stands in `#[` and `]`")
            );
        }
        assert_eq!(faults("{ips: [1.2.3.4], ipExpression: '#[payload.ip]'}").len(), 1);
    }

    /// YAML would read `192.160` as a number; what was written counts.
    #[test]
    fn octets_are_read_as_written() {
        let forwarded = [("x-forwarded-for", "192.160.0.1")];
        assert_eq!(refused::<IpAllowlist>("{ips: [192.160]}", &forwarded), None);
        assert_eq!(refused::<IpAllowlist>("{ips: [192]}", &forwarded), None);
        assert_eq!(refused::<IpAllowlist>("{ips: [192.16]}", &forwarded), Some("ip_not_allowed"));
    }

    #[test]
    fn what_anybody_can_claim_is_remarked_on() {
        let remarks = |text: &str| testing::remarks::<IpAllowlist>(text);
        assert!(remarks("{ips: [10.0.0.1]}").is_empty());
        assert!(remarks("{ips: [10.0.0.1], ipExpression: '#[attributes.remoteAddress]'}").is_empty());
        assert_eq!(remarks("{ips: []}"), ["config.ips: empty: nobody passes"]);
        assert_eq!(
            remarks("{ips: [10.0.0.1], ipExpression: \"#[attributes.headers['x-real-ip']]\"}"),
            [
                "config.ipExpression: the client writes this itself, unless a proxy before the gateway does: it can name any \
                 address"
            ]
        );
        assert_eq!(
            remarks("{ips: [10.0.0.1], ipExpression: \"#['10.0.0.1']\"}"),
            ["config.ipExpression: reads nothing of where a request comes from: the same for every client"]
        );
    }
}
