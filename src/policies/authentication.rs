//! Who the client is: what policies have found out, for those behind them and for logs.

use std::rc::Rc;

use crate::expression::Datum;

/// Who the client is, as far as policies have found out. Lives with a connection, so that its buffers are reused.
#[derive(Clone, Debug, Default)]
pub struct Authentication {
    principal: String,
    client_id: String,
    client_name: String,
    sla_id: String,
    sla_name: String,
    /// Whatever else a policy has found out, such as the claims of a token.
    properties: Option<Rc<Datum>>,
}

impl Authentication {
    /// Forgets the previous request's client.
    pub fn clear(&mut self) {
        self.principal.clear();
        self.client_id.clear();
        self.client_name.clear();
        self.sla_id.clear();
        self.sla_name.clear();
        self.properties = None;
    }

    pub fn set_principal(&mut self, name: &str) {
        set(&mut self.principal, name);
    }

    /// What was known of another one's tier is forgotten.
    pub fn set_client(&mut self, id: &str, name: &str) {
        set(&mut self.client_id, id);
        set(&mut self.client_name, name);
        self.set_sla("", "");
    }

    /// The tier that the client's contract has; empty texts where it has none.
    pub fn set_sla(&mut self, id: &str, name: &str) {
        set(&mut self.sla_id, id);
        set(&mut self.sla_name, name);
    }

    pub fn set_properties(&mut self, properties: Rc<Datum>) {
        self.properties = Some(properties);
    }

    pub fn principal(&self) -> Option<&str> {
        said(&self.principal)
    }

    pub fn client_id(&self) -> Option<&str> {
        said(&self.client_id)
    }

    pub fn client_name(&self) -> Option<&str> {
        said(&self.client_name)
    }

    pub fn sla_id(&self) -> Option<&str> {
        said(&self.sla_id)
    }

    pub fn sla_name(&self) -> Option<&str> {
        said(&self.sla_name)
    }

    pub fn properties(&self) -> Option<&Datum> {
        self.properties.as_deref()
    }
}

fn set(field: &mut String, text: &str) {
    field.clear();
    field.push_str(text);
}

fn said(field: &str) -> Option<&str> {
    (!field.is_empty()).then_some(field)
}
