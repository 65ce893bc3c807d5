//! Under what the policies of a chain are counted.

use super::{Compiler, Owner};
use crate::{
    policies::{self, chain::BoundPolicy},
    telemetry::series::Series,
};

impl Compiler<'_> {
    /// Each policy by the name of its binding, where it is bound. Names are the table's: two ways to write one are one.
    pub(super) fn give_series(&mut self, chain: &mut [BoundPolicy], owner: Owner<'_>) {
        let (id, api, service) = match owner {
            Owner::Api(id) => (id, id.name.as_str(), ""),
            Owner::Service(id) => (id, "", id.name.as_str()),
        };
        for bound in chain {
            let policy = policies::lookup(&bound.reference).map_or(&*bound.reference, |entry| entry.name);
            let (namespace, binding) = (id.namespace.as_str(), bound.name.as_str());
            bound.series = (self.intern)(Series::Policy { namespace, api, service, policy, binding });
        }
    }
}
