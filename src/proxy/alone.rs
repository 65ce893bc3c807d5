//! Exchanges without a client: a policy has answered it, and the request goes on to renew what is stored.
//!
//! Such a one begins with that policy's turn, on the same core, and goes the way of any other: policies behind it, route,
//! Service, the response's policies. What it would send arrives at once. It counts as no request of a client, and nobody is
//! kept waiting for it: a core that drains or has another configuration ends it within a second.

use std::rc::Rc;

use super::{
    account::Account,
    client::Client,
    core::{Core, Serving},
    decide::Decision,
    exchange::{self, Suspended},
    wire::Wire,
    workspace::Workspace,
};
use crate::net::task;

/// In the place of a client: there until the core has something else to do.
#[derive(Clone)]
pub struct Nobody {
    core: Rc<Core>,
    /// Of the snapshot that it was begun with.
    generation: u64,
}

impl Nobody {
    pub fn is_gone(&self) -> bool {
        self.core.draining() || self.core.serving().snapshot.generation != self.generation
    }
}

/// Whether another one may begin.
pub fn has_room(core: &Core) -> bool {
    let most = core.serving().snapshot.settings.cache.revalidations_per_core;
    !core.draining() && core.alone.now() < most
}

/// Has the request go on, where a policy that has answered it says so.
pub fn begin_if_wanted(client: &Client, workspace: &mut Workspace, serving: &Rc<Serving>, account: &Account) {
    let (Some(goes_on), Some(api)) = (workspace.api_turns.take_goes_on(), account.api) else { return };
    let (client, base) = (client.for_stream(), account.base);
    let core = &client.core;
    let mut own = core.workspaces.lend(client.peer.ip());
    own.request.clone_from(&workspace.request);
    own.authentication.clone_from(&workspace.authentication);
    own.timeouts = exchange::usual_timeouts(serving);
    own.api_turns.begin_with(goes_on);
    let (occupant, serving) = (core.alone.enter(), serving.clone());
    task::spawn(async move {
        let _occupant = occupant;
        let nobody = Nobody { core: client.core.clone(), generation: serving.snapshot.generation };
        let mut account = Account::alone(&client, serving.clone(), &own.request);
        (account.api, account.base) = (Some(api), base);
        let (asked, mut decision) = (exchange::asked(&client), Decision::within(api, base));
        let random = || client.core.random();
        let next = decision.go_on(&asked, &mut own, &serving, random, None, &mut account);
        let mut wire = Wire::Nobody(&nobody);
        Suspended::new(serving, account, decision, next).run(&client, &mut wire, &mut own).await;
    });
}
