//! What policies add as tables: all of them beside each other, and each with what it was made of.

use super::{
    super::{
        Role,
        results::PeersReport,
        table::{Table, spread},
    },
    results::{PolicyReport, PolicyTrial},
};
use crate::{report::page::Bar, statistics::Spread};

/// A row for each policy, a column for each peer. `None` where no policy was asked for.
pub fn summary(report: &PeersReport) -> Option<Table> {
    report.policies.first()?;
    let with_targets = report.policies.iter().any(|policy| policy.target_us.is_some());
    let names: Vec<&str> = peers(report).collect();
    let mut head = vec![String::new()];
    head.extend(names.iter().map(|name| (*name).to_owned()));
    if with_targets {
        head.push("target".into());
    }
    let row = |policy: &PolicyReport| {
        let mut row = vec![policy.name.clone()];
        row.extend(names.iter().map(|name| match policy.added.get(*name) {
            Some(added) => format!("{:.2}", added.us.median),
            None => String::new(),
        }));
        if with_targets {
            row.push(
                policy
                    .target_us
                    .map_or_else(String::new, |target| format!("{target} {}", verdict(report, policy, target))),
            );
        }
        row
    };
    Some(Table {
        title: "What policies add: CPU us a request".into(),
        head,
        rows: report.policies.iter().map(row).collect(),
        note: Some(
            "With the policy less the plain request of the same round; the median of the rounds. What a request carries for \
             the policy, such as a token, counts as added by it."
                .into(),
        ),
    })
}

/// Of the gateway: whether the median is within its target.
fn verdict(report: &PeersReport, policy: &PolicyReport, target: f64) -> &'static str {
    let gateway = report.peers.iter().find(|peer| peer.role == Role::Gateway);
    match gateway.and_then(|gateway| policy.added.get(&gateway.name)) {
        Some(added) if added.us.median <= target => "(met)",
        Some(_) => "(missed)",
        None => "(not measured)",
    }
}

/// One policy: a row for each peer that it was measured with, and why others are left out below.
pub fn table(report: &PeersReport, policy: &PolicyReport) -> Table {
    let row = |name: &str| {
        let trials = policy.trials.get(name).map_or(&[][..], Vec::as_slice);
        let Some(added) = policy.added.get(name) else {
            let failed = [name, "failed", "", "", "", ""];
            return failed.map(str::to_owned).to_vec();
        };
        let whole = |take: fn(&PolicyTrial) -> f64| spread(&trials.iter().map(take).collect::<Vec<f64>>(), 2);
        vec![
            name.to_owned(),
            difference(added.us),
            difference(added.policy_us),
            difference(added.user_us),
            whole(|trial| trial.plain.us_per_request),
            whole(|trial| trial.with.us_per_request),
        ]
    };
    let here = peers(report).filter(|name| !policy.left_out.contains_key(*name));
    let left_out: Vec<String> =
        peers(report).filter_map(|name| Some(format!("{name} is left out: {}.", policy.left_out.get(name)?))).collect();
    Table {
        title: format!("{}: {}", policy.name, policy.title),
        head: ["", "adds us a request", "the policy alone", "in user space", "plain us", "with the policy us"]
            .map(str::to_owned)
            .into(),
        rows: here.map(row).collect(),
        note: Some(left_out.join(" ")).filter(|note| !note.is_empty()),
    }
}

/// What is added with each peer, the part in user space darker.
pub fn costs(report: &PeersReport, policy: &PolicyReport) -> Vec<Bar> {
    let bar = |name: &str| {
        let added = policy.added.get(name)?;
        let Spread { median, min, max } = added.us;
        let part = added.user_us.median.clamp(0.0, median.max(0.0));
        Some(Bar { name: name.to_owned(), part, value: median, least: min, most: max })
    };
    peers(report).filter_map(bar).collect()
}

/// All but the floor, which knows no policy.
fn peers(report: &PeersReport) -> impl Iterator<Item = &str> {
    report.peers.iter().filter(|peer| peer.role != Role::Floor).map(|peer| peer.name.as_str())
}

/// With its sign, as a policy may cost less than the rounds differ.
fn difference(Spread { median, min, max }: Spread) -> String {
    if min == max { format!("{median:+.2}") } else { format!("{median:+.2} ({min:+.2} to {max:+.2})") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::peers::{
        policies::{PolicyTrial, results::tests::phase},
        results::{PeerFacts, tests::empty_report},
    };

    fn policy(name: &str, target_us: Option<f64>, rounds: &[(f64, f64)]) -> PolicyReport {
        let round = |&(plain, with): &(f64, f64)| PolicyTrial {
            plain: phase(plain, 4.0),
            asked: Some(phase(plain + 0.25, 4.0)),
            with: phase(with, 4.5),
        };
        let mut report = PolicyReport {
            name: name.into(),
            title: "a thing".into(),
            target_us,
            left_out: BTreeMap::from([("other".to_owned(), "it knows no such thing".to_owned())]),
            trials: BTreeMap::from([("gate".to_owned(), rounds.iter().map(round).collect())]),
            added: BTreeMap::new(),
        };
        report.summarize();
        report
    }

    fn report(policies: Vec<PolicyReport>) -> PeersReport {
        let peer = |name: &str, role| PeerFacts {
            name: name.into(),
            role,
            version: String::new(),
            config_hash: String::new(),
        };
        let peers = vec![peer("gate", Role::Gateway), peer("floor", Role::Floor), peer("other", Role::Peer)];
        PeersReport { peers, policies, ..empty_report() }
    }

    #[test]
    fn policies_stand_beside_each_other_with_their_targets() {
        let rounds = [(20.0, 21.0), (20.0, 22.0), (20.0, 21.5)];
        let all = vec![
            policy("policy-a", Some(1.5), &rounds),
            policy("policy-b", Some(1.0), &rounds),
            policy("policy-c", None, &[]),
        ];
        let table = summary(&report(all)).expect("policies were asked for");
        assert_eq!(table.head, ["", "gate", "other", "target"]);
        assert_eq!(table.rows[0], ["policy-a", "1.50", "", "1.5 (met)"]);
        assert_eq!(table.rows[1], ["policy-b", "1.50", "", "1 (missed)"]);
        assert_eq!(table.rows[2], ["policy-c", "", "", ""]);
        let unmeasured = summary(&report(vec![policy("policy-a", Some(1.5), &[])])).expect("one was asked for");
        assert_eq!(unmeasured.rows[0][3], "1.5 (not measured)");
        assert_eq!(summary(&report(vec![policy("policy-c", None, &rounds)])).expect("one").head, ["", "gate", "other"]);
        assert!(summary(&report(Vec::new())).is_none());
    }

    #[test]
    fn a_policys_figures_have_their_sign_and_their_spread() {
        let report = report(vec![policy("policy-a", None, &[(20.0, 21.0), (20.0, 19.5), (20.0, 21.5)])]);
        let table = table(&report, &report.policies[0]);
        let expected = [
            "gate",
            "+1.00 (-0.50 to +1.50)",
            "+0.75 (-0.75 to +1.25)",
            "+0.50",
            "20.00 (20.00-20.00)",
            "21.00 (19.50-21.50)",
        ];
        assert_eq!(table.rows, [expected]);
        assert_eq!(table.note.as_deref(), Some("other is left out: it knows no such thing."));
        let bars = costs(&report, &report.policies[0]);
        assert_eq!(bars.iter().map(|bar| (bar.part, bar.value, bar.least)).collect::<Vec<_>>(), [(0.5, 1.0, -0.5)]);
    }

    #[test]
    fn a_peer_without_a_figure_has_failed() {
        let report = report(vec![policy("policy-a", None, &[])]);
        assert_eq!(table(&report, &report.policies[0]).rows, [["gate", "failed", "", "", "", ""]]);
    }
}
