//! The functions that exist: their names, the modules they may be named with, how many arguments they take.

use crate::document::node::nearest;

/// A function of the table below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Contains,
    FromBase64,
    IsEmpty,
    Lower,
    SizeOf,
    SplitBy,
    SubstringAfter,
    SubstringAfterLast,
    SubstringBefore,
    SubstringBeforeLast,
    ToBase64,
    ToBinary,
    ToString,
    Trim,
    Upper,
    Uuid,
}

struct Row {
    function: Function,
    name: &'static str,
    module: &'static str,
    arguments: usize,
}

const CORE: &str = "dw::Core";
const STRINGS: &str = "dw::core::Strings";
const BINARIES: &str = "dw::core::Binaries";
/// The manuals print this one too.
const BINARIES_MISPRINTED: &str = "dw::Binaries";
const COERCIONS: &str = "dw::util::Coercions";

/// In the order of their names, which is the order in which messages list them.
const TABLE: [Row; 16] = [
    row(Function::Contains, "contains", CORE, 2),
    row(Function::FromBase64, "fromBase64", BINARIES, 1),
    row(Function::IsEmpty, "isEmpty", CORE, 1),
    row(Function::Lower, "lower", CORE, 1),
    row(Function::SizeOf, "sizeOf", CORE, 1),
    row(Function::SplitBy, "splitBy", CORE, 2),
    row(Function::SubstringAfter, "substringAfter", STRINGS, 2),
    row(Function::SubstringAfterLast, "substringAfterLast", STRINGS, 2),
    row(Function::SubstringBefore, "substringBefore", STRINGS, 2),
    row(Function::SubstringBeforeLast, "substringBeforeLast", STRINGS, 2),
    row(Function::ToBase64, "toBase64", BINARIES, 1),
    row(Function::ToBinary, "toBinary", COERCIONS, 2),
    row(Function::ToString, "toString", COERCIONS, 2),
    row(Function::Trim, "trim", CORE, 1),
    row(Function::Upper, "upper", CORE, 1),
    row(Function::Uuid, "uuid", CORE, 0),
];

const fn row(function: Function, name: &'static str, module: &'static str, arguments: usize) -> Row {
    Row { function, name, module, arguments }
}

impl Function {
    fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    pub(super) fn name(self) -> &'static str {
        self.row().name
    }

    /// The name as full DataWeave needs it.
    pub(super) fn path(self) -> String {
        match self.row().module {
            CORE => self.name().to_owned(),
            module => format!("{module}::{}", self.name()),
        }
    }

    pub(super) fn arguments(self) -> usize {
        self.row().arguments
    }

    /// Finds a function by its name, with a module in front or without.
    pub(super) fn named(path: &str) -> Option<Self> {
        let (module, name) = path.rsplit_once("::").map_or((None, path), |(module, name)| (Some(module), name));
        let row = TABLE.iter().find(|row| row.name == name)?;
        let is_there = module
            .is_none_or(|module| module == row.module || (module == BINARIES_MISPRINTED && row.module == BINARIES));
        is_there.then_some(row.function)
    }

    /// Every name, the one that was probably meant first.
    pub(super) fn names(written: &str) -> String {
        let written = written.rsplit("::").next().unwrap_or(written);
        let meant = nearest(written, TABLE.iter().map(|row| row.name));
        let others = TABLE.iter().map(|row| row.name).filter(|name| Some(*name) != meant);
        let names: Vec<&str> = meant.into_iter().chain(others).collect();
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_at_their_functions() {
        for row in &TABLE {
            assert_eq!(row.function.name(), row.name);
            assert_eq!(Function::named(&row.function.path()), Some(row.function));
        }
        assert!(TABLE.is_sorted_by_key(|row| row.name.to_ascii_lowercase()));
    }
}
