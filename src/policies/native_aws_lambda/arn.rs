//! The name of a function: `arn:<partition>:lambda:<region>:<account>:function:<name>[:<version or alias>]`.

/// A function's, with what is needed to ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arn {
    text: String,
    pub region: String,
}

impl Arn {
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let parts: Vec<&str> = text.split(':').collect();
        let (region, rest) = match &parts[..] {
            ["arn", partition, "lambda", region, account, "function", rest @ ..] => {
                let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
                ((is_word(partition) && is_word(region) && is_account).then_some(*region)?, rest)
            }
            _ => return None,
        };
        let is_function = matches!(rest.len(), 1 | 2) && rest.iter().all(|part| is_word(part));
        is_function.then(|| Self { text: text.to_owned(), region: region.to_owned() })
    }

    /// Where it is invoked.
    pub fn path(&self) -> Vec<u8> {
        format!("/2015-03-31/functions/{}/invocations", self.text).into_bytes()
    }
}

/// `$LATEST` is a version.
fn is_word(text: &str) -> bool {
    let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'$');
    !text.is_empty() && text.len() <= 140 && text.bytes().all(is_sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_have_a_region_and_may_have_a_version() {
        for text in [
            "arn:aws:lambda:us-west-2:987654321:function:f",
            "arn:aws:lambda::123456789012:function:f",
            "arn:aws:s3:us-west-2:123456789012:function:f",
            "arn:aws:lambda:us-west-2:123456789012:layer:f",
            "arn:aws:lambda:us-west-2:123456789012:function:",
            "arn:aws:lambda:us-west-2:123456789012:function:f:1:2",
            "arn:aws:lambda:us-west-2:123456789012:function:a/../b",
            "arn:aws:lambda:us-west-2:123456789012:function:a b",
            "f",
            "",
        ] {
            assert_eq!(Arn::parse(text), None, "{text}");
        }
        let path = |name: &str| {
            let arn = Arn::parse(&format!("arn:aws-cn:lambda:cn-north-1:123456789012:function:{name}")).expect("one");
            assert_eq!(arn.region, "cn-north-1");
            String::from_utf8(arn.path()).expect("text")
        };
        let base = "/2015-03-31/functions/arn:aws-cn:lambda:cn-north-1:123456789012:function:";
        assert_eq!(path("f_1"), format!("{base}f_1/invocations"));
        assert_eq!(path("f:$LATEST"), format!("{base}f:$LATEST/invocations"));
    }
}
