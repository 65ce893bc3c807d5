//! From text to tokens, each with the byte where it starts.
//!
//! What DataWeave has and expressions do not is refused here where a single character shows it, with a word on what to
//! write instead: "unexpected character" helps nobody who pasted typographic quotes.

use super::CompileError;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token<'t> {
    pub(super) at: usize,
    pub(super) kind: Kind<'t>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind<'t> {
    Name(&'t str),
    /// Without its quotes, escapes replaced.
    String(String),
    /// As it is written, without a sign.
    Number(&'t str),
    Symbol(&'static str),
    End,
}

/// Longer ones first, so that `>=` is not read as `>` and something.
const SYMBOLS: [&str; 19] =
    ["==", "!=", ">=", "<=", "++", "--", "::", "<", ">", "(", ")", "[", "]", ",", ".", "@", "*", "#", "-"];

/// Every token of a text, `End` last.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, CompileError> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next()?;
        let is_end = token.kind == Kind::End;
        tokens.push(token);
        if is_end {
            return Ok(tokens);
        }
    }
}

/// Whether a text can stand behind a dot, or be a root, without quotes.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(begins_name) && text.chars().all(continues_name)
}

fn begins_name(character: char) -> bool {
    character.is_ascii_alphabetic() || character == '_'
}

fn continues_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    fn next(&mut self) -> Result<Token<'t>, CompileError> {
        let skipped = self.rest().len() - self.rest().trim_start_matches([' ', '\t', '\r', '\n']).len();
        self.at += skipped;
        let at = self.at;
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(Token { at, kind: Kind::End }) };
        let kind = if begins_name(first) {
            Kind::Name(self.take(rest.find(|c| !continues_name(c)).unwrap_or(rest.len())))
        } else if first.is_ascii_digit() {
            self.number()?
        } else if first == '\'' || first == '"' {
            Kind::String(self.string(first)?)
        } else if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
            self.at += symbol.len();
            Kind::Symbol(symbol)
        } else {
            return Err(CompileError::new(at, unexpected(first)));
        };
        Ok(Token { at, kind })
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn take(&mut self, length: usize) -> &'t str {
        let taken = &self.rest()[..length];
        self.at += length;
        taken
    }

    fn number(&mut self) -> Result<Kind<'t>, CompileError> {
        let at = self.at;
        let length = number_length(self.rest());
        let written = self.take(length);
        if self.rest().starts_with(begins_name) {
            return Err(CompileError::new(self.at, "a number ends here, and a name begins without a space"));
        }
        if !written.parse::<f64>().is_ok_and(f64::is_finite) {
            return Err(CompileError::new(at, "a number too large for 64 bits"));
        }
        Ok(Kind::Number(written))
    }

    fn string(&mut self, quote: char) -> Result<String, CompileError> {
        let start = self.at;
        let mut out = String::new();
        let mut characters = self.rest().char_indices();
        characters.next();
        while let Some((offset, character)) = characters.next() {
            let at = start + offset;
            match character {
                _ if character == quote => {
                    self.at = at + 1;
                    return Ok(out);
                }
                '$' if self.text[at + 1..].starts_with('(') => {
                    return Err(CompileError::new(at, "`$(...)` in a string is not supported, `++` joins strings"));
                }
                '\\' => match characters.next().map(|(_, escaped)| escaped) {
                    Some('n') => out.push('\n'),
                    Some('r') => out.push('\r'),
                    Some('t') => out.push('\t'),
                    Some('b') => out.push('\u{8}'),
                    Some('f') => out.push('\u{c}'),
                    Some(escaped @ ('\\' | '/' | '\'' | '"' | '`' | '$')) => out.push(escaped),
                    Some('u') => {
                        let digits = self.text.get(at + 2..at + 6).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
                        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
                        let Some(escaped) = code.and_then(char::from_u32) else {
                            return Err(CompileError::new(
                                at,
                                "`\\u` takes the four hexadecimal digits of a character",
                            ));
                        };
                        out.push(escaped);
                        characters.nth(3);
                    }
                    Some(_) => {
                        return Err(CompileError::new(at, "an unknown escape in a string, `\\\\` is a backslash"));
                    }
                    None => break,
                },
                _ => out.push(character),
            }
        }
        Err(CompileError::new(start, format!("a string without its closing {quote}")))
    }
}

/// How far a number reaches: digits, a fraction, an exponent.
fn number_length(text: &str) -> usize {
    let digits = |from: usize| text[from..].bytes().take_while(u8::is_ascii_digit).count();
    let mut length = digits(0);
    if text[length..].starts_with('.') && digits(length + 1) > 0 {
        length += 1 + digits(length + 1);
    }
    if text[length..].starts_with(['e', 'E']) {
        let sign = usize::from(text[length + 1..].starts_with(['+', '-']));
        let exponent = digits(length + 1 + sign);
        if exponent > 0 {
            length += 1 + sign + exponent;
        }
    }
    length
}

fn unexpected(character: char) -> String {
    let help = match character {
        '‘' | '’' | '‚' | '‛' | '“' | '”' | '„' | '‟' | '«' | '»' | '‹' | '›' | '´' => {
            return format!("the typographic quote {character}, strings stand in ' or \"");
        }
        '`' => "strings stand in ' or \"",
        '{' | '}' => "objects cannot be written in an expression",
        '=' => "`==` compares",
        '!' => "`not` negates",
        '+' => "there is no arithmetic, `++` joins",
        '/' | '%' => "there is no arithmetic",
        '&' => "`and` is the operator",
        '|' => "`or` is the operator",
        '?' => "`if (condition) a else b` chooses",
        '\u{a0}' | '\u{200b}' | '\u{feff}' => {
            return format!("an invisible character U+{:04X} in place of a space", u32::from(character));
        }
        _ if character.is_control() => return format!("the control character U+{:04X}", u32::from(character)),
        _ => return format!("unexpected `{character}`"),
    };
    format!("unexpected `{character}`: {help}")
}
