//! `spec.ringway.tls`: whether clients take up sessions again, and whose keys seal their tickets.

use std::{path::PathBuf, sync::Arc};

use super::read_file;
use crate::{
    config::{effective::Sections, resources::GatewayRingway},
    document::problem::{Problem, Severity},
    tls::TicketKeys,
};

/// `None`: tickets are off. `own` are the keys where no file is named.
pub fn keys(
    sections: &Sections,
    own: &Arc<TicketKeys>,
    files: &mut Vec<PathBuf>,
    problems: &mut Vec<Problem>,
) -> Option<Arc<TicketKeys>> {
    let (GatewayRingway { tls, .. }, path) = sections.section("ringway");
    if tls.tickets == Some(false) {
        if let Some(file) = tls.ticket_keys_file {
            let (path, text) = (format!("{path}.tls.ticketKeysFile"), "no effect: `tickets` is false".to_owned());
            problems.push(Problem { severity: Severity::Warning, location: file.location, path, text });
        }
        return None;
    }
    let Some(file) = tls.ticket_keys_file else { return Some(own.clone()) };
    let read = read_file(&file.value, &file.location, files).and_then(|bytes| TicketKeys::from_file(&bytes));
    Some(read.unwrap_or_else(|text| {
        let path = format!("{path}.tls.ticketKeysFile");
        problems.push(Problem { severity: Severity::Error, location: file.location, path, text });
        own.clone()
    }))
}
