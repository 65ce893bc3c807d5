//! From tokens to a tree, and every name to what it stands for.
//!
//! Operators bind as in DataWeave, from loosest: `++ -- default contains` and other functions between their arguments,
//! all alike and from the left; then `or`; `and`; `== !=`; `< <= > >=`; `not`; selectors. That `a contains b and c` is
//! `a contains (b and c)` surprises people, so it is remarked.

use super::{
    Bindings, CompileError, DEPTH_MAX, Needs, Remark,
    data::{Datum, Number},
    function::Function,
    lexer::{Kind, Token},
    tree::{At, Attribute, Identity, Input, Node, Order, Step},
};
use crate::document::node::nearest;

pub(super) struct Compiled {
    pub(super) root: Node,
    pub(super) needs: Needs,
    pub(super) remarks: Vec<Remark>,
}

pub(super) fn parse(tokens: &[Token<'_>], bindings: &Bindings) -> Result<Compiled, CompileError> {
    let mut parser = Parser { tokens, at: 0, nesting: 0, bindings, needs: Needs::default(), remarks: Vec::new() };
    let root = parser.expression()?;
    let token = parser.peek();
    match &token.kind {
        Kind::End => {}
        Kind::Symbol(symbol @ (")" | "]")) => {
            return Err(CompileError::new(token.at, format!("`{symbol}` closes nothing")));
        }
        kind => return Err(CompileError::new(token.at, format!("an operator is expected before {}", described(kind)))),
    }
    Ok(Compiled { root: root.node, needs: parser.needs, remarks: parser.remarks })
}

struct Parser<'t, 'b> {
    tokens: &'t [Token<'t>],
    at: usize,
    nesting: usize,
    bindings: &'b Bindings,
    needs: Needs,
    remarks: Vec<Remark>,
}

/// A node, how deep it is, and the operator at its top while it has no parentheses around it.
struct Parsed {
    node: Node,
    depth: usize,
    bare: Option<&'static str>,
}

type Outcome<T> = Result<T, CompileError>;

impl Parsed {
    fn leaf(node: Node) -> Self {
        Self { node, depth: 1, bare: None }
    }

    /// One level above others.
    fn above(node: Node, depth: usize, at: usize, bare: Option<&'static str>) -> Outcome<Self> {
        if depth >= DEPTH_MAX {
            return Err(too_deep(at));
        }
        Ok(Self { node, depth: depth + 1, bare })
    }
}

fn too_deep(at: usize) -> CompileError {
    CompileError::new(at, format!("more than {DEPTH_MAX} expressions in one another"))
}

impl<'t> Parser<'t, '_> {
    /// The loosest level: `++`, `--`, `default` and functions written between their arguments.
    fn expression(&mut self) -> Outcome<Parsed> {
        self.enter()?;
        let start = At(self.peek().at);
        let mut left = self.or()?;
        loop {
            let token = self.peek();
            let at = token.at;
            let word = match token.kind {
                Kind::Symbol(symbol @ ("++" | "--")) => symbol,
                Kind::Name("and" | "or" | "else") => break,
                Kind::Name(word) => word,
                _ => break,
            };
            let function = match word {
                "++" | "--" | "default" => None,
                name => Some(self.between(name, at)?),
            };
            self.at += 1;
            let right_start = At(self.peek().at);
            let right = self.or()?;
            self.remark_binding(word, at, left.bare, right.bare);
            let depth = left.depth.max(right.depth);
            let position = At(at);
            let (left_depth, right_depth) = (left.depth, right.depth);
            left = match (function, word, left.node) {
                (Some(function), _, node) => {
                    Parsed::above(Node::Call(function, vec![node, right.node], position), depth, at, None)?
                }
                (None, "++", Node::Join(mut operands)) => {
                    operands.push((right.node, right_start));
                    // The chain stays one node; only a deeper operand makes it deeper.
                    let depth = (left_depth - 1).max(right_depth);
                    Parsed::above(Node::Join(operands), depth, at, None)?
                }
                (None, "++", node) => {
                    let operands = vec![(node, start), (right.node, right_start)];
                    Parsed::above(Node::Join(operands), depth, at, None)?
                }
                (None, "--", node) => {
                    Parsed::above(Node::Remove(Box::new([node, right.node]), position), depth, at, None)?
                }
                (None, _, node) => Parsed::above(Node::Default(Box::new([node, right.node])), depth, at, None)?,
            };
        }
        self.nesting -= 1;
        Ok(left)
    }

    /// A function that stands between its two arguments.
    fn between(&self, name: &str, at: usize) -> Outcome<Function> {
        match Function::named(name) {
            Some(function) if function.arguments() == 2 => Ok(function),
            Some(_) => Err(CompileError::new(at, format!("`{name}` does not stand between two arguments"))),
            None => Err(CompileError::new(
                at,
                format!("no operator or function is named `{name}`, there are {}", Function::names(name)),
            )),
        }
    }

    fn or(&mut self) -> Outcome<Parsed> {
        self.chain("or", Self::and, Node::Or)
    }

    fn and(&mut self) -> Outcome<Parsed> {
        self.chain("and", Self::equality, Node::And)
    }

    fn chain(
        &mut self,
        word: &'static str,
        operand: fn(&mut Self) -> Outcome<Parsed>,
        node: fn(Vec<(Node, At)>) -> Node,
    ) -> Outcome<Parsed> {
        let start = At(self.peek().at);
        let first = operand(self)?;
        let at = self.peek().at;
        if !self.take_name(word) {
            return Ok(first);
        }
        let mut depth = first.depth;
        let mut operands = vec![(first.node, start)];
        loop {
            let start = At(self.peek().at);
            let next = operand(self)?;
            depth = depth.max(next.depth);
            operands.push((next.node, start));
            if !self.take_name(word) {
                return Parsed::above(node(operands), depth, at, Some(word));
            }
        }
    }

    fn equality(&mut self) -> Outcome<Parsed> {
        let mut left = self.order()?;
        loop {
            let at = self.peek().at;
            let Some(symbol) = self.take_symbol(&["==", "!="]) else { return Ok(left) };
            let right = self.order()?;
            self.remark_equality(symbol, at, &left.node, &right.node);
            let depth = left.depth.max(right.depth);
            let node = Node::Equal(Box::new([left.node, right.node]), symbol == "!=");
            left = Parsed::above(node, depth, at, Some(symbol))?;
        }
    }

    fn order(&mut self) -> Outcome<Parsed> {
        let mut left = self.unary()?;
        loop {
            let at = self.peek().at;
            let Some(symbol) = self.take_symbol(&["<", "<=", ">", ">="]) else { return Ok(left) };
            let right = self.unary()?;
            let order = match symbol {
                "<" => Order::Less,
                "<=" => Order::LessOrEqual,
                ">" => Order::Greater,
                _ => Order::GreaterOrEqual,
            };
            let depth = left.depth.max(right.depth);
            left =
                Parsed::above(Node::Order(order, Box::new([left.node, right.node]), At(at)), depth, at, Some(symbol))?;
        }
    }

    fn unary(&mut self) -> Outcome<Parsed> {
        let at = self.peek().at;
        if !self.take_name("not") {
            return self.selected();
        }
        self.enter()?;
        let inner = self.unary()?;
        self.nesting -= 1;
        Parsed::above(Node::Not(Box::new(inner.node), At(at)), inner.depth, at, None)
    }

    /// A value and the selectors behind it.
    fn selected(&mut self) -> Outcome<Parsed> {
        let mut value = self.primary()?;
        loop {
            let at = self.peek().at;
            let (step, depth) = match self.take_symbol(&[".", "["]) {
                Some(".") => (self.dotted()?, 1),
                Some(_) => self.bracketed()?,
                None => return Ok(value),
            };
            let depth = value.depth.max(depth);
            let node = self.select(value.node, step, at)?;
            // Folded into what it reads, a selector costs no depth, and neither does a further one.
            value = match node {
                Node::Read(_) => Parsed::leaf(node),
                _ if depth >= DEPTH_MAX => return Err(too_deep(at)),
                _ => Parsed { node, depth: depth.max(2), bare: None },
            };
        }
    }

    /// Behind a dot.
    fn dotted(&mut self) -> Outcome<Step> {
        let selector = self.take_symbol(&["*", "@"]);
        let token = self.peek();
        let mut name = match &token.kind {
            Kind::Name(name) => (*name).to_owned(),
            Kind::String(name) => name.clone(),
            Kind::Number(number) => {
                let text = format!("a name is expected behind the dot, an index is written `[{number}]`");
                return Err(CompileError::new(token.at, text));
            }
            kind => {
                return Err(CompileError::new(token.at, format!("a name is expected before {}", described(kind))));
            }
        };
        self.at += 1;
        // `soap#Envelope` is the element that is written `soap:Envelope`.
        if self.take_symbol(&["#"]).is_some() {
            let token = self.peek();
            let Kind::Name(local) = token.kind else {
                return Err(CompileError::new(token.at, "a name is expected behind the namespace"));
            };
            name = format!("{name}:{local}");
            self.at += 1;
        }
        let name = name.into();
        Ok(match selector {
            Some("*") => Step::All(name),
            Some(_) => Step::Attribute(name),
            None => Step::Name(name),
        })
    }

    /// Behind an opening bracket.
    fn bracketed(&mut self) -> Outcome<(Step, usize)> {
        let at = self.peek().at;
        let inner = self.expression()?;
        self.expect("]", "a selector")?;
        let step = match inner.node {
            Node::Constant(Datum::String(name)) => Step::Name(name),
            // A fraction is cut off.
            Node::Constant(Datum::Number(number)) => Step::Index(number.value as i64, At(at)),
            Node::Constant(Datum::Boolean(_) | Datum::List(_)) => {
                return Err(CompileError::new(at, "a selector takes a number or a name"));
            }
            node => Step::Computed(Box::new(node), At(at)),
        };
        Ok((step, inner.depth))
    }

    /// What a selector behind a value makes of it.
    fn select(&mut self, base: Node, step: Step, at: usize) -> Outcome<Node> {
        let input = match (&base, &step) {
            (Node::Read(Input::Attributes), Step::Name(name)) => match &**name {
                "headers" => {
                    self.needs.headers = true;
                    Some(Input::Headers)
                }
                "queryParams" => {
                    self.remark_side(name, self.bindings.is_request, at);
                    Some(Input::QueryParams)
                }
                _ => {
                    let known = Attribute::named(name);
                    match known {
                        Some(Attribute::StatusCode) => self.remark_side(name, self.bindings.is_response, at),
                        Some(_) => self.remark_side(name, self.bindings.is_request, at),
                        None => {
                            let names = Attribute::ALL.into_iter().map(|(name, _)| name);
                            self.remark_unknown("attributes", name, names.chain(["headers", "queryParams"]), at);
                        }
                    }
                    known.map(Input::Attribute)
                }
            },
            (Node::Read(Input::Headers), Step::Name(name)) => Some(Input::Header(name.to_ascii_lowercase().into())),
            (Node::Read(Input::QueryParams), Step::Name(name)) => Some(Input::QueryParam(name.clone())),
            (Node::Read(Input::Authentication), Step::Name(name)) if **name == *"properties" => Some(Input::Properties),
            (Node::Read(Input::Authentication), Step::Name(name)) => {
                let known = Identity::named(name);
                if known.is_none() {
                    let names = Identity::ALL.into_iter().map(|(name, _)| name);
                    self.remark_unknown("authentication", name, names.chain(["properties"]), at);
                }
                known.map(Input::Identity)
            }
            (Node::Read(Input::Variables), Step::Name(name)) => {
                if !self.bindings.variables.contains(name) {
                    let names: Vec<&str> = self.bindings.variables.iter().map(|name| &**name).collect();
                    let text = format!("there is no `vars.{name}` here, only vars.{}", names.join(", vars."));
                    return Err(CompileError::new(at, text));
                }
                Some(Input::Variable(name.clone()))
            }
            _ => None,
        };
        if let Some(input) = input {
            return Ok(Node::Read(input));
        }
        Ok(match base {
            Node::Select(base, mut steps) => {
                steps.push(step);
                Node::Select(base, steps)
            }
            base => Node::Select(Box::new(base), vec![step]),
        })
    }

    fn primary(&mut self) -> Outcome<Parsed> {
        let token = self.peek();
        let at = token.at;
        self.at += 1;
        match &token.kind {
            Kind::String(text) => Ok(Parsed::leaf(Node::Constant(Datum::String(text.as_str().into())))),
            Kind::Number(written) => number(written, at),
            Kind::Symbol("-") => match self.peek().kind {
                Kind::Number(written) => {
                    self.at += 1;
                    number(&format!("-{written}"), at)
                }
                _ => Err(CompileError::new(at, "there is no arithmetic, `-` stands before a number only")),
            },
            Kind::Symbol("(") => {
                let inner = self.expression()?;
                self.expect(")", "parentheses")?;
                Ok(Parsed { bare: None, ..inner })
            }
            Kind::Symbol("[") => self.list(at),
            Kind::Name(name) => self.name(name, at),
            Kind::Symbol(symbol @ ("*" | "#" | "@")) => Err(CompileError::new(at, format!("unexpected `{symbol}`"))),
            Kind::Symbol(_) | Kind::End => {
                self.at -= 1;
                Err(CompileError::new(at, format!("a value is expected before {}", described(&token.kind))))
            }
        }
    }

    fn list(&mut self, at: usize) -> Outcome<Parsed> {
        let mut depth = 0;
        let mut items = Vec::new();
        while self.take_symbol(&["]"]).is_none() {
            let item = self.expression()?;
            depth = depth.max(item.depth);
            items.push(item.node);
            if self.take_symbol(&[","]).is_none() {
                self.expect("]", "an array")?;
                break;
            }
            if self.peek().kind == Kind::Symbol("]") {
                return Err(CompileError::new(self.peek().at, "a value is expected before `]`"));
            }
        }
        let node = if items.iter().all(|item| matches!(item, Node::Constant(_))) {
            let constants = items.into_iter().filter_map(|item| match item {
                Node::Constant(datum) => Some(datum),
                _ => None,
            });
            Node::Constant(Datum::List(constants.collect()))
        } else {
            Node::List(items)
        };
        Parsed::above(node, depth, at, None)
    }

    /// A word where a value stands: a literal, `if`, something of the exchange, or a function.
    fn name(&mut self, name: &str, at: usize) -> Outcome<Parsed> {
        let is_path = matches!(self.peek().kind, Kind::Symbol("::" | "("));
        let input = match name {
            "true" => return Ok(Parsed::leaf(Node::Constant(Datum::Boolean(true)))),
            "false" => return Ok(Parsed::leaf(Node::Constant(Datum::Boolean(false)))),
            "null" => return Ok(Parsed::leaf(Node::Constant(Datum::Null))),
            "if" => return self.conditional(at),
            "and" | "or" | "not" | "else" | "default" => {
                self.at -= 1;
                return Err(CompileError::new(at, format!("a value is expected before `{name}`")));
            }
            _ if is_path => return self.call(name, at),
            "attributes" => {
                self.available(self.bindings.is_request || self.bindings.is_response, name, at)?;
                self.needs.attributes = true;
                // Read whole, they include the headers.
                self.needs.headers |= self.peek().kind != Kind::Symbol(".");
                Input::Attributes
            }
            "authentication" => {
                self.available(self.bindings.authentication, name, at)?;
                self.needs.authentication = true;
                Input::Authentication
            }
            "payload" => {
                self.available(!self.bindings.formats.is_empty(), name, at)?;
                self.needs.payload = true;
                Input::Payload
            }
            "vars" => {
                self.available(!self.bindings.variables.is_empty(), name, at)?;
                self.needs.variables = true;
                Input::Variables
            }
            _ => {
                let text = match Function::named(name) {
                    Some(_) => format!("`{name}` is a function, its arguments stand in parentheses"),
                    None => {
                        let roots = ["attributes", "authentication", "payload", "vars"];
                        let meant = nearest(name, roots.into_iter());
                        let others = roots.into_iter().filter(|root| Some(*root) != meant);
                        let names: Vec<&str> = meant.into_iter().chain(others).collect();
                        format!("nothing is named `{name}`, there are {}", names.join(", "))
                    }
                };
                return Err(CompileError::new(at, text));
            }
        };
        Ok(Parsed::leaf(Node::Read(input)))
    }

    fn available(&self, is_bound: bool, name: &str, at: usize) -> Outcome<()> {
        if is_bound { Ok(()) } else { Err(CompileError::new(at, format!("`{name}` is not available here"))) }
    }

    fn conditional(&mut self, at: usize) -> Outcome<Parsed> {
        if self.take_symbol(&["("]).is_none() {
            return Err(CompileError::new(self.peek().at, "the condition of `if` stands in parentheses"));
        }
        let condition = self.expression()?;
        self.expect(")", "the condition")?;
        let then = self.expression()?;
        if !self.take_name("else") {
            return Err(CompileError::new(self.peek().at, "`else` is expected: an `if` always has one"));
        }
        let otherwise = self.expression()?;
        let depth = condition.depth.max(then.depth).max(otherwise.depth);
        let parts = Box::new([condition.node, then.node, otherwise.node]);
        Parsed::above(Node::If(parts, At(at)), depth, at, None)
    }

    fn call(&mut self, first: &str, at: usize) -> Outcome<Parsed> {
        let mut path = first.to_owned();
        while self.take_symbol(&["::"]).is_some() {
            let token = self.peek();
            let Kind::Name(name) = token.kind else {
                return Err(CompileError::new(token.at, "a name is expected behind `::`"));
            };
            path = format!("{path}::{name}");
            self.at += 1;
        }
        let Some(function) = Function::named(&path) else {
            let text = format!("no function is named `{path}`, there are {}", Function::names(&path));
            return Err(CompileError::new(at, text));
        };
        if self.take_symbol(&["("]).is_none() {
            return Err(CompileError::new(self.peek().at, format!("`(` is expected behind `{path}`")));
        }
        let mut depth = 0;
        let mut arguments = Vec::new();
        if self.take_symbol(&[")"]).is_none() {
            loop {
                let argument = self.expression()?;
                depth = depth.max(argument.depth);
                arguments.push(argument.node);
                if self.take_symbol(&[","]).is_none() {
                    break;
                }
            }
            self.expect(")", "the arguments")?;
        }
        let (wanted, found) = (function.arguments(), arguments.len());
        if wanted != found {
            let plural = if wanted == 1 { "" } else { "s" };
            let text = format!("`{}` takes {wanted} argument{plural}, not {found}", function.name());
            return Err(CompileError::new(at, text));
        }
        Parsed::above(Node::Call(function, arguments, At(at)), depth, at, None)
    }

    fn enter(&mut self) -> Outcome<()> {
        self.nesting += 1;
        if self.nesting > DEPTH_MAX { Err(too_deep(self.peek().at)) } else { Ok(()) }
    }

    /// The last token is the end, and stays.
    fn peek(&self) -> &'t Token<'t> {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn take_symbol(&mut self, wanted: &[&str]) -> Option<&'static str> {
        match self.peek().kind {
            Kind::Symbol(symbol) if wanted.contains(&symbol) => {
                self.at += 1;
                Some(symbol)
            }
            _ => None,
        }
    }

    fn take_name(&mut self, wanted: &str) -> bool {
        let is_there = matches!(self.peek().kind, Kind::Name(name) if name == wanted);
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, symbol: &'static str, what: &str) -> Outcome<()> {
        if self.take_symbol(&[symbol]).is_some() {
            return Ok(());
        }
        let token = self.peek();
        let text = format!("`{symbol}` is expected before {}, to end {what}", described(&token.kind));
        Err(CompileError::new(token.at, text))
    }

    fn remark(&mut self, position: usize, text: String) {
        self.remarks.push(Remark { position, text });
    }

    fn remark_unknown<'n>(&mut self, object: &str, name: &str, known: impl Iterator<Item = &'n str>, at: usize) {
        let hint = nearest(name, known).map(|meant| format!(", did you mean `{meant}`?")).unwrap_or_default();
        self.remark(at, format!("`{object}` has no `{name}`: it is always null{hint}"));
    }

    fn remark_side(&mut self, name: &str, is_there: bool, at: usize) {
        if !is_there {
            let other = if self.bindings.is_request { "request" } else { "response" };
            self.remark(at, format!("a {other} has no `attributes.{name}`: it is always null"));
        }
    }

    fn remark_binding(&mut self, operator: &str, at: usize, left: Option<&'static str>, right: Option<&'static str>) {
        if let Some(tighter) = left.or(right) {
            let text = format!("`{operator}` takes all of `... {tighter} ...` here, parentheses would say so");
            self.remark(at, text);
        }
    }

    fn remark_equality(&mut self, symbol: &str, at: usize, left: &Node, right: &Node) {
        if let (Some(left), Some(right)) = (kind(left), kind(right))
            && left != right
        {
            let always = if symbol == "==" { "false" } else { "true" };
            self.remark(at, format!("{left} compared with {right} is always {always}: nothing is converted"));
        }
    }
}

/// The type of a node where the text shows it.
fn kind(node: &Node) -> Option<&'static str> {
    match node {
        Node::Constant(Datum::String(_)) | Node::Join(..) => Some("a string"),
        Node::Constant(Datum::Number(_)) => Some("a number"),
        Node::Constant(Datum::Boolean(_)) | Node::And(..) | Node::Or(..) | Node::Not(..) | Node::Equal(..) => {
            Some("a boolean")
        }
        Node::Read(Input::Attribute(Attribute::StatusCode)) => Some("a number"),
        Node::Read(Input::Attribute(_) | Input::Header(_) | Input::QueryParam(_) | Input::Identity(_)) => {
            Some("a string")
        }
        _ => None,
    }
}

fn number(written: &str, at: usize) -> Outcome<Parsed> {
    let number = Number::parse(written).ok_or_else(|| CompileError::new(at, "not a number of 64 bits"))?;
    Ok(Parsed::leaf(Node::Constant(Datum::Number(number))))
}

fn described(kind: &Kind<'_>) -> String {
    match kind {
        Kind::Name(name) => format!("`{name}`"),
        Kind::String(_) => "the string".to_owned(),
        Kind::Number(written) => format!("`{written}`"),
        Kind::Symbol(symbol) => format!("`{symbol}`"),
        Kind::End => "the end".to_owned(),
    }
}
