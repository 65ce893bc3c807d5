//! The tries of an exchange: when there is another one, and what they may cost.

use std::{cell::Cell, rc::Rc};

use super::Failure;
use crate::{
    calls::forward_proxy,
    config::snapshot::Service,
    http::head::{BodyLength, RequestHead},
    proxy::{
        body::Held,
        core::Core,
        pool::{Reuse, Unavailable, Upstream},
    },
};

/// The tries of one exchange, and what they may cost.
pub(super) struct Tries<'a> {
    core: Rc<Core>,
    service: &'a Service,
    upstream: &'a Upstream,
    left: Cell<u32>,
    /// A pooled connection turned out stale: the next try dials.
    fresh: Cell<bool>,
    /// Times that an upstream did not take the request.
    unprocessed: Cell<u32>,
    /// The present try's connection had carried a request before.
    pub(super) reused: Cell<bool>,
    /// Counted among the core's retries under way.
    counted: Cell<bool>,
    /// A policy has wanted another response.
    another: Cell<bool>,
}

/// Why there is another try.
pub(super) enum Again {
    /// No upstream has looked at the request: nobody's failure, and no retry is spent.
    Unseen,
    Retry,
    /// A policy can make nothing of the response that has come.
    Wanted,
}

/// So often a request that no upstream has looked at is sent again without being counted as a retry.
const UNPROCESSED_MAX: u32 = 3;

/// Retries that a core may always have under way.
const RETRIES_MIN: u64 = 3;

impl<'a> Tries<'a> {
    pub(super) fn new(core: &Rc<Core>, service: &'a Service, upstream: &'a Upstream) -> Self {
        Self {
            core: core.clone(),
            service,
            upstream,
            left: Cell::new(service.retries.attempts),
            fresh: Cell::new(false),
            unprocessed: Cell::new(0),
            reused: Cell::new(false),
            counted: Cell::new(false),
            another: Cell::new(false),
        }
    }

    /// How much of the body is kept. Over HTTP/2 an upstream may say that it has not looked at the request; over HTTP/1.1
    /// only a retry, or a stale connection of an idempotent request, asks for it, and other uploads cost no copy.
    pub(super) fn keeps(&self, multiplexes: bool, method: &[u8], most: usize) -> usize {
        let stale = self.reused.get() && is_idempotent(method);
        if multiplexes || self.service.retries.attempts > 0 || stale { most } else { 0 }
    }

    /// A request that can simply be sent again takes its chance with any idle connection.
    pub(super) fn reuse(&self, request: &RequestHead, method: &[u8]) -> Reuse {
        match self.fresh.get() {
            true => Reuse::None,
            false if request.body == BodyLength::None && is_idempotent(method) => Reuse::Any,
            false => Reuse::Checked,
        }
    }

    /// Whether to try once more after this failure; if so, it is counted. `is_young`: the request has not had the time yet
    /// that an answer may take.
    pub(super) fn again(&self, failure: &Failure, method: &[u8], is_young: bool) -> Option<Again> {
        let retries = &self.service.retries;
        let wanted = match failure {
            // The upstream closed an idle connection just when it was used: nobody's failure, so no retry is spent.
            Failure::Reset { silent: true } if self.reused.get() && !self.fresh.get() && is_idempotent(method) => {
                self.fresh.set(true);
                return Some(Again::Unseen);
            }
            Failure::AnotherWanted(_) if !self.another.replace(true) => return Some(Again::Wanted),
            // Nobody has seen it: another connection may take it.
            Failure::Unprocessed if is_young && self.unprocessed.get() < UNPROCESSED_MAX => {
                self.unprocessed.set(self.unprocessed.get() + 1);
                return Some(Again::Unseen);
            }
            Failure::Unavailable(Unavailable::Connect(_) | Unavailable::ConnectTimeout) => retries.connect_failure,
            Failure::Unavailable(Unavailable::Proxy(fault)) => {
                retries.connect_failure && matches!(fault.reason, forward_proxy::UNREACHABLE | forward_proxy::TIMEOUT)
            }
            Failure::Unprocessed => retries.reset,
            Failure::Reset { .. } => retries.reset && is_idempotent(method),
            Failure::GatewayError => true,
            _ => false,
        };
        if !wanted || !self.affordable() {
            return None;
        }
        self.left.set(self.left.get() - 1);
        if !self.counted.replace(true) {
            self.core.retries.set(self.core.retries.get() + 1);
            self.upstream.retry_begins();
        }
        Some(Again::Retry)
    }

    pub(super) fn gateway_error_allowed(&self, method: &[u8], held: &Held) -> bool {
        self.service.retries.gateway_error && is_idempotent(method) && held.is_whole() && self.affordable()
    }

    /// Within the attempts of this exchange, the budget of this core and the threshold of the Service.
    fn affordable(&self) -> bool {
        let open = self.core.telemetry.requests_open.value();
        let budget = (open * u64::from(self.service.retries.budget_percent) / 100).max(RETRIES_MIN);
        let has_room = || u64::from(self.core.retries.get()) < budget && self.upstream.may_retry();
        self.left.get() > 0 && (self.counted.get() || has_room())
    }
}

impl Drop for Tries<'_> {
    fn drop(&mut self) {
        if self.counted.get() {
            self.core.retries.set(self.core.retries.get() - 1);
            self.upstream.retry_ends();
        }
    }
}

/// RFC 9110 section 9.2.2.
fn is_idempotent(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE")
}
