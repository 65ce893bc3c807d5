//! `$NAME` in policy configurations: a string that is exactly that becomes the variable's value.
//!
//! The whole value or nothing, so the `$` of a regular expression or a template is left alone.

use super::environment::Environment;
use crate::document::{
    node::Node,
    problem::{Problem, Severity},
};

/// The configuration with its variables replaced. `None`, and a problem for each, if one is not set.
pub fn variables(config: &Node, path: &str, environment: &Environment, problems: &mut Vec<Problem>) -> Option<Node> {
    let mut complete = true;
    let replaced = config.map_strings(path, &mut |path, text, location| {
        let name = variable(text)?;
        let value = environment.get(name);
        if value.is_none() {
            complete = false;
            let text = format!("the environment variable `{name}` is not set");
            let (severity, location) = (Severity::Policy, location.clone());
            problems.push(Problem { severity, location, path: path.to_owned(), text });
        }
        value.map(str::to_owned)
    });
    complete.then_some(replaced)
}

fn variable(text: &str) -> Option<&str> {
    let name = text.strip_prefix('$')?;
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let rest = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (name.starts_with(first) && name.chars().all(rest)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_value_is_a_variable() {
        for (text, name) in [
            ("$NAME", Some("NAME")),
            ("$_a1", Some("_a1")),
            ("$1", None),
            ("$", None),
            ("x$NAME", None),
            ("$NAME ", None),
            ("$A$B", None),
            ("${NAME}", None),
            ("^/a$", None),
        ] {
            assert_eq!(variable(text), name, "{text}");
        }
    }

    #[test]
    fn a_variable_that_is_not_set_is_named_with_its_place() {
        let mut problems = Vec::new();
        let nodes = Node::parse(&std::sync::Arc::new("f".into()), "a: $SET\nb: [x, $UNSET]\n$SET: c\n", &mut problems);
        let environment = Environment::from([("SET", "yes")]);
        assert!(variables(&nodes[0], "p", &environment, &mut problems).is_none());
        assert_eq!(problems[0].to_string(), "f:2:8: p.b[1]: the environment variable `UNSET` is not set");
        let environment = Environment::from([("SET", "yes"), ("UNSET", "")]);
        let replaced = variables(&nodes[0], "p", &environment, &mut problems).expect("both are set");
        assert_eq!(replaced.to_json().to_string(), r#"{"$SET":"c","a":"yes","b":["x",""]}"#);
    }
}
