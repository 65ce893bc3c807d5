//! The result as a page: for each workload the CPU a request as bars, the part in user space darker, and its table.

use std::fmt::Write;

use super::{
    policies,
    results::{PeersReport, WorkloadReport},
    table::{self, Table},
};
use crate::{
    report::page::{self, Bar, bars, escape},
    statistics::Spread,
};

pub fn render(report: &PeersReport) -> String {
    let mut page = page::open("Peers");
    for line in table::about(report) {
        let _ = write!(page, "<p>{}</p>", escape(&line));
    }
    let _ = write!(page, "<p><code>{}</code></p>", escape(&report.command));
    page::list(&mut page, table::who(report));
    page.push_str(
        "<p>Bars: CPU of the proxy for a request at its maximum, or what a policy adds to it, microseconds, the part in user \
         space darker; the line goes from the least to the most of the rounds.</p>",
    );
    if let Some(table) = policies::summary(report) {
        section(&mut page, table, &[]);
    }
    for policy in &report.policies {
        section(&mut page, policies::table(report, policy), &policies::costs(report, policy));
    }
    for workload in &report.workloads {
        section(&mut page, table::load(report, workload), &costs(report, workload));
    }
    for table in table::idle(report) {
        section(&mut page, table, &[]);
    }
    let doubts = table::doubts(report);
    if !doubts.is_empty() {
        page.push_str("<h2>Doubts</h2>");
        page::list(&mut page, doubts);
    }
    page::close(&mut page);
    page
}

fn section(page: &mut String, table: Table, drawn: &[Bar]) {
    let _ = write!(page, "<h2>{}</h2>", escape(&table.title));
    bars(page, &table.title, "us", drawn);
    if !table.rows.is_empty() {
        page::table(page, &table.head, &table.rows);
    }
    if let Some(note) = table.note {
        let _ = write!(page, "<p>{}</p>", escape(&note));
    }
}

fn costs(report: &PeersReport, workload: &WorkloadReport) -> Vec<Bar> {
    let bar = |name: &String| {
        let all = Spread::of(&table::samples(workload, name, |trial| Some(trial.at_maximum.us_per_request)))?;
        let user = Spread::of(&table::samples(workload, name, |trial| Some(trial.at_maximum.user_us)))?;
        let (value, least, most) = (all.median, all.min, all.max);
        Some(Bar { name: name.clone(), part: user.median, value, least, most })
    };
    report.peers.iter().filter_map(|peer| bar(&peer.name)).collect()
}
