//! Rules: which requests a route takes and a policy applies to (path, host, methods, headers; AND within, OR across).
#[derive(Debug)]
pub struct Rule;
