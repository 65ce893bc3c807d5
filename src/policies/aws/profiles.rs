//! The file of profiles that AWS's own tools keep: `[name]` lines, and `key = value` below them.

use super::signing::Credentials;

/// The keys of one profile; a later section of the same name adds to it, and of a key written twice the last counts.
pub fn find(text: &str, profile: &str) -> Option<Credentials> {
    let mut is_in = false;
    let [mut id, mut secret, mut token] = [const { None }; 3];
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            is_in = name.trim() == profile;
            continue;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| is_in) else { continue };
        let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        match key.trim() {
            "aws_access_key_id" => id = value,
            "aws_secret_access_key" => secret = value,
            "aws_session_token" => token = value,
            _ => {}
        }
    }
    Some(Credentials { access_key_id: id?, secret_access_key: secret?, session_token: token })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_profile_has_its_own_keys() {
        let text = "# ours\n[default]\naws_access_key_id=A\naws_secret_access_key = s=1 \n\n[ other ]\r\n\
                    aws_access_key_id = B\r\naws_secret_access_key = t\r\naws_session_token = u\r\nregion = x\r\n\
                    [half]\naws_access_key_id = C\n[default]\naws_access_key_id = D\nno line\n";
        let found = |profile| {
            find(text, profile).map(|found| (found.access_key_id, found.secret_access_key, found.session_token))
        };
        let keys = |id: &str, secret: &str, token: Option<&str>| {
            Some((id.to_owned(), secret.to_owned(), token.map(str::to_owned)))
        };
        assert_eq!(found("default"), keys("D", "s=1", None));
        assert_eq!(found("other"), keys("B", "t", Some("u")));
        assert_eq!((found("half"), found("nobody"), find("", "default")), (None, None, None));
    }
}
