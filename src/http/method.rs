//! Request methods, as far as anybody tells them apart by number.

/// Methods that have a number of their own; the rest is `_OTHER`, as a client may invent any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    Trace,
    Connect,
    #[default]
    Other,
}

impl Method {
    pub const ALL: [Self; 10] = [
        Self::Get,
        Self::Head,
        Self::Post,
        Self::Put,
        Self::Delete,
        Self::Options,
        Self::Patch,
        Self::Trace,
        Self::Connect,
        Self::Other,
    ];

    /// Methods are case-sensitive (RFC 9110 section 9.1).
    pub fn of(method: &[u8]) -> Self {
        match method {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"PATCH" => Self::Patch,
            b"TRACE" => Self::Trace,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Trace => "TRACE",
            Self::Connect => "CONNECT",
            Self::Other => "_OTHER",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_read_as_it_is_written_and_no_other_way() {
        for method in Method::ALL {
            assert_eq!(Method::of(method.as_str().as_bytes()), method);
        }
        for other in ["get", "BREW", "", "GET "] {
            assert_eq!(Method::of(other.as_bytes()), Method::Other, "{other}");
        }
    }

    #[test]
    fn all_are_in_the_order_of_their_numbers() {
        assert!(Method::ALL.iter().enumerate().all(|(number, method)| *method as usize == number));
    }
}
