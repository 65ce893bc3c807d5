//! From a tree and an exchange to a value.
//!
//! Recursion is as deep as the tree, and trees have a bound; every loop over what a client sent pays from the budget.

use std::{borrow::Cow, cmp::Ordering, fmt};

use super::{
    EvaluationError, Fault,
    budget::Budget,
    call,
    context::Context,
    data::parse_number,
    tree::{At, Input, Node, Order, Step},
    value::{ITEM_BYTES, List, Members, Value, attribute, identity, query_params},
};

pub(super) struct Evaluator<'a, 'b> {
    pub(super) context: &'a dyn Context,
    /// The variables that are bound.
    pub(super) variables: &'a [Box<str>],
    pub(super) budget: &'b mut Budget,
}

type Outcome<T> = Result<T, EvaluationError>;

impl<'a> Evaluator<'a, '_> {
    pub(super) fn value(&mut self, node: &'a Node) -> Outcome<Value<'a>> {
        self.budget.step(At::NOWHERE)?;
        Ok(match node {
            Node::Constant(datum) => datum.into(),
            Node::List(items) => {
                self.budget.make(At::NOWHERE, items.len() * ITEM_BYTES)?;
                let items: Outcome<Vec<Value<'a>>> = items.iter().map(|item| self.value(item)).collect();
                Value::List(List::Items(items?))
            }
            Node::Read(input) => self.read(input)?,
            Node::Select(base, steps) => {
                let mut value = self.value(base)?;
                for step in steps {
                    value = self.select(value, step)?;
                }
                value
            }
            Node::Call(function, arguments, at) => call::call(self, *function, arguments, *at)?,
            Node::Join(operands) => self.join(operands)?,
            Node::And(operands) => self.until(operands, "`and`", false)?,
            Node::Or(operands) => self.until(operands, "`or`", true)?,
            Node::Remove(operands, at) => {
                let [left, right] = &**operands;
                let (left, right) = (self.value(left)?, self.value(right)?);
                self.remove(left, right, *at)?
            }
            Node::Default(operands) => {
                let [left, right] = &**operands;
                match self.value(left)? {
                    Value::Null => self.value(right)?,
                    value => value,
                }
            }
            Node::Equal(operands, negated) => {
                let [left, right] = &**operands;
                let (left, right) = (self.value(left)?, self.value(right)?);
                Value::Boolean(equal(&left, &right, Leaves::AsTheyAre, At::NOWHERE, self.budget)? != *negated)
            }
            Node::Order(order, operands, at) => {
                let [left, right] = &**operands;
                let (left, right) = (self.value(left)?, self.value(right)?);
                Value::Boolean(self.compare(*order, left, right, *at)?)
            }
            Node::Not(inner, at) => Value::Boolean(!self.condition(inner, *at, "`not`")?),
            Node::If(parts, at) => {
                let [condition, then, otherwise] = &**parts;
                if self.condition(condition, *at, "`if`")? { self.value(then)? } else { self.value(otherwise)? }
            }
        })
    }

    /// The value as a log shows it, in pieces: what `++` joins is nowhere put together. After an error it is not whole.
    pub(super) fn write(&mut self, node: &'a Node, write: &mut dyn FnMut(&str)) -> Outcome<()> {
        let value = match node {
            Node::Join(operands) => {
                self.budget.step(At::NOWHERE)?;
                match self.join_into(operands, write)? {
                    Some(items) => Value::List(List::Items(items)),
                    None => return Ok(()),
                }
            }
            _ => self.value(node)?,
        };
        match value {
            number @ Value::Number(_, None) => self.add_text(write, number, At::NOWHERE),
            other => {
                write(&other.into_line(self.budget)?);
                Ok(())
            }
        }
    }

    fn read(&mut self, input: &'a Input) -> Outcome<Value<'a>> {
        let context = self.context;
        Ok(match input {
            Input::Attributes => Value::Object(Members::Attributes(context)),
            Input::Attribute(name) => attribute(context, *name),
            Input::Headers => Value::Object(Members::Headers(context)),
            Input::Header(name) => context.header(name).into(),
            Input::QueryParams => query_params(context),
            Input::QueryParam(name) => {
                let members = Members::QueryParams(context);
                self.budget.read(At::NOWHERE, members.work())?;
                members.get(name)
            }
            Input::Authentication => Value::Object(Members::Authentication(context)),
            Input::Identity(name) => identity(context, *name),
            Input::Properties => context.properties(),
            Input::Payload => context.payload().map_or(Value::Null, |payload| payload.value()),
            Input::Variables => Value::Object(Members::Variables(context, self.variables)),
            Input::Variable(name) => context.variable(name),
        })
    }

    fn condition(&mut self, node: &'a Node, at: At, what: &'static str) -> Outcome<bool> {
        let value = self.value(node)?;
        value.truth().ok_or_else(|| EvaluationError::new(at, Fault::Type(what, value.kind())))
    }

    /// `and` ends at the first false, `or` at the first true.
    fn until(&mut self, operands: &'a [(Node, At)], what: &'static str, end: bool) -> Outcome<Value<'a>> {
        for (operand, at) in operands {
            if self.condition(operand, *at, what)? == end {
                return Ok(Value::Boolean(end));
            }
        }
        Ok(Value::Boolean(!end))
    }

    fn select(&mut self, value: Value<'a>, step: &'a Step) -> Outcome<Value<'a>> {
        self.budget.step(At::NOWHERE)?;
        match step {
            Step::Name(name) => self.named(value, name),
            Step::Index(index, at) => self.indexed(value, *index, *at),
            Step::Computed(node, at) => match self.value(node)?.settle() {
                Value::Null => Ok(Value::Null),
                // A fraction is cut off; what does not fit is beyond every end.
                Value::Number(index, _) => self.indexed(value, index as i64, *at),
                Value::String(name) => self.named(value, &name),
                other => Err(EvaluationError::new(*at, Fault::Type("a selector", other.kind()))),
            },
            Step::All(name) => {
                let mut found = Vec::new();
                self.all(value, name, &mut found)?;
                Ok(if found.is_empty() { Value::Null } else { Value::List(List::Items(found)) })
            }
            Step::Attribute(name) => self.xml_attribute(value, name),
        }
    }

    /// `.name`; on a list, the values of that name in its objects.
    fn named(&mut self, value: Value<'a>, name: &str) -> Outcome<Value<'a>> {
        match value {
            Value::Object(members) => {
                self.budget.read(At::NOWHERE, members.work())?;
                Ok(members.get(name))
            }
            Value::Element(element) => {
                let members = Members::Element(element);
                self.budget.read(At::NOWHERE, members.work())?;
                Ok(members.get(name))
            }
            Value::Payload(payload) => self.named(payload.parsed(), name),
            Value::List(list @ (List::Data(_) | List::Items(_))) => {
                let mut found = Vec::new();
                for item in list.gather(At::NOWHERE, self.budget)? {
                    if matches!(item, Value::Object(_) | Value::Element(_)) {
                        let item = self.named(item, name)?;
                        if !item.is_null() {
                            found.push(item);
                        }
                    }
                }
                Ok(if found.is_empty() { Value::Null } else { Value::List(List::Items(found)) })
            }
            _ => Ok(Value::Null),
        }
    }

    fn indexed(&mut self, value: Value<'a>, index: i64, at: At) -> Outcome<Value<'a>> {
        match value.settle() {
            Value::Null => Ok(Value::Null),
            Value::List(list) => {
                if let List::Parts { text, .. } = &list {
                    self.budget.read(at, text.len())?;
                    if matches!(text, Cow::Owned(_)) {
                        self.budget.make(at, text.len())?;
                    }
                }
                Ok(list.get(index).unwrap_or(Value::Null))
            }
            Value::String(text) => {
                self.budget.read(at, text.len())?;
                Ok(List::Parts { text, separator: Cow::Borrowed("") }.get(index).unwrap_or(Value::Null))
            }
            other => Err(EvaluationError::new(at, Fault::Type("an index", other.kind()))),
        }
    }

    fn all(&mut self, value: Value<'a>, name: &str, found: &mut Vec<Value<'a>>) -> Outcome<()> {
        match value {
            Value::Element(element) => {
                let members = Members::Element(element);
                self.budget.read(At::NOWHERE, members.work())?;
                for child in element.children.iter().filter(|child| child.is_named(name)) {
                    self.budget.make(At::NOWHERE, ITEM_BYTES)?;
                    found.push(Value::Element(child));
                }
                Ok(())
            }
            Value::Payload(payload) => self.all(payload.parsed(), name, found),
            Value::Object(members) => {
                self.budget.read(At::NOWHERE, members.work())?;
                let value = members.get(name);
                if !value.is_null() {
                    found.push(value);
                }
                Ok(())
            }
            Value::List(list @ (List::Data(_) | List::Items(_))) => {
                for item in list.gather(At::NOWHERE, self.budget)? {
                    // Lists in lists are not looked into, as `.name` does not.
                    if matches!(item, Value::Object(_) | Value::Element(_)) {
                        self.all(item, name, found)?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn xml_attribute(&mut self, value: Value<'a>, name: &str) -> Outcome<Value<'a>> {
        match value {
            Value::Element(element) => Ok(element.attribute(name).into()),
            Value::List(list @ List::Items(_)) => {
                let elements = list.gather(At::NOWHERE, self.budget)?.into_iter();
                let found: Vec<Value<'a>> = elements
                    .filter_map(|item| match item {
                        Value::Element(element) => element.attribute(name),
                        _ => None,
                    })
                    .map(|text| Value::String(Cow::Borrowed(text)))
                    .collect();
                Ok(if found.is_empty() { Value::Null } else { Value::List(List::Items(found)) })
            }
            _ => Ok(Value::Null),
        }
    }

    fn join(&mut self, operands: &'a [(Node, At)]) -> Outcome<Value<'a>> {
        let mut text = String::new();
        let items = self.join_into(operands, &mut |piece| text.push_str(piece))?;
        Ok(items.map_or(Value::String(Cow::Owned(text)), |items| Value::List(List::Items(items))))
    }

    /// `++`: arrays with arrays, all else as text. The first operand decides; a body can be either, and asks the second. Text
    /// goes out piece by piece, and nothing is returned then.
    pub(super) fn join_into(
        &mut self,
        operands: &'a [(Node, At)],
        write: &mut dyn FnMut(&str),
    ) -> Outcome<Option<Vec<Value<'a>>>> {
        let [(first, first_at), (second, second_at), others @ ..] = operands else { return Ok(None) };
        let (first, second) = (self.value(first)?, self.value(second)?);
        let joins_lists = match &first {
            Value::List(_) => true,
            Value::Payload(payload) => is_list(&payload.parsed()) && is_list(&second.view().settle()),
            _ => false,
        };
        if joins_lists {
            let mut items = Vec::new();
            self.add_items(&mut items, first, *first_at)?;
            self.add_items(&mut items, second, *second_at)?;
            for (operand, at) in others {
                let value = self.value(operand)?;
                self.add_items(&mut items, value, *at)?;
            }
            return Ok(Some(items));
        }
        self.add_text(write, first, *first_at)?;
        self.add_text(write, second, *second_at)?;
        for (operand, at) in others {
            let value = self.value(operand)?;
            self.add_text(write, value, *at)?;
        }
        Ok(None)
    }

    fn add_items(&mut self, items: &mut Vec<Value<'a>>, value: Value<'a>, at: At) -> Outcome<()> {
        match value.settle() {
            Value::List(list) => {
                items.extend(list.gather(at, self.budget)?);
                Ok(())
            }
            other => Err(EvaluationError::new(at, Fault::Type("`++` of an array", other.kind()))),
        }
    }

    fn add_text(&mut self, write: &mut dyn FnMut(&str), value: Value<'a>, at: At) -> Outcome<()> {
        if let Value::Number(number, None) = value {
            let mut bytes = 0;
            write_number(number, &mut |digits| {
                bytes += digits.len();
                write(digits);
            });
            return self.budget.make(at, bytes);
        }
        let kind = value.kind();
        let piece = value.scalar_text().ok_or(EvaluationError::new(at, Fault::Type("`++`", kind)))?;
        self.budget.make(at, piece.len())?;
        write(&piece);
        Ok(())
    }

    fn remove(&mut self, left: Value<'a>, right: Value<'a>, at: At) -> Outcome<Value<'a>> {
        match (left.settle(), right.settle()) {
            (Value::List(left), Value::List(right)) => {
                let right = right.gather(at, self.budget)?;
                let mut kept = Vec::new();
                for item in left.gather(at, self.budget)? {
                    if !self.is_among(&item, &right, at)? {
                        kept.push(item);
                    }
                }
                Ok(Value::List(List::Items(kept)))
            }
            (Value::Object(left), Value::List(right)) => {
                let right = right.gather(at, self.budget)?;
                let mut kept = Vec::new();
                for (name, value) in left.gather(at, self.budget)? {
                    if !self.is_among(&Value::String(Cow::Borrowed(&name)), &right, at)? {
                        kept.push((name, value));
                    }
                }
                Ok(Value::Object(Members::Owned(kept)))
            }
            (Value::Object(left), Value::Object(right)) => {
                let mut right = right.gather(at, self.budget)?;
                right.sort_by(|a, b| a.0.cmp(&b.0));
                let mut kept = Vec::new();
                for (name, value) in left.gather(at, self.budget)? {
                    self.budget.step(at)?;
                    let is_there = match right.binary_search_by(|(other, _)| other.cmp(&name)) {
                        Ok(place) => equal(&value, &right[place].1, Leaves::AsStrings, at, self.budget)?,
                        Err(_) => false,
                    };
                    if !is_there {
                        kept.push((name, value));
                    }
                }
                Ok(Value::Object(Members::Owned(kept)))
            }
            (Value::List(_) | Value::Object(_), right) => {
                Err(EvaluationError::new(at, Fault::Type("`--`, on the right,", right.kind())))
            }
            (left, _) => Err(EvaluationError::new(at, Fault::Type("`--`", left.kind()))),
        }
    }

    fn is_among(&mut self, item: &Value<'_>, items: &[Value<'_>], at: At) -> Outcome<bool> {
        for other in items {
            if equal(item, other, Leaves::AsStrings, at, self.budget)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The right side says as what both are compared.
    fn compare(&mut self, order: Order, left: Value<'a>, right: Value<'a>, at: At) -> Outcome<bool> {
        let what = match order {
            Order::Less => "`<`",
            Order::LessOrEqual => "`<=`",
            Order::Greater => "`>`",
            Order::GreaterOrEqual => "`>=`",
        };
        let refused = |kind| EvaluationError::new(at, Fault::Type(what, kind));
        let (left, right) = (left.settle(), right.settle());
        let kind = left.kind();
        let ordering = match (left, right) {
            (left, Value::Number(right, _)) => {
                let left = match left {
                    Value::Number(left, _) => left,
                    left @ (Value::String(_) | Value::Binary(_)) => {
                        let text = left.scalar_text().ok_or(refused(kind))?;
                        self.budget.read(at, text.len())?;
                        parse_number(&text).ok_or(EvaluationError::new(at, Fault::NotANumber))?
                    }
                    _ => return Err(refused(kind)),
                };
                // Neither is NaN: nothing makes one.
                left.partial_cmp(&right).unwrap_or(Ordering::Equal)
            }
            (left, Value::Boolean(right)) => left.truth().ok_or(refused(kind))?.cmp(&right),
            (left, Value::String(right)) => {
                let left = left.scalar_text().ok_or(refused(kind))?;
                self.budget.read(at, left.len().min(right.len()))?;
                left.cmp(&right)
            }
            (_, right) => return Err(refused(right.kind())),
        };
        Ok(match order {
            Order::Less => ordering.is_lt(),
            Order::LessOrEqual => ordering.is_le(),
            Order::Greater => ordering.is_gt(),
            Order::GreaterOrEqual => ordering.is_ge(),
        })
    }
}

/// At most some hundred digits, which lie in no string.
fn write_number(number: f64, write: &mut dyn FnMut(&str)) {
    struct Pieces<'w>(&'w mut dyn FnMut(&str));
    impl fmt::Write for Pieces<'_> {
        fn write_str(&mut self, piece: &str) -> fmt::Result {
            (self.0)(piece);
            Ok(())
        }
    }
    fmt::Write::write_fmt(&mut Pieces(write), format_args!("{number}")).expect("pieces are always taken");
}

fn is_list(value: &Value<'_>) -> bool {
    matches!(value, Value::List(_))
}

/// What writing out a number costs, as if it were so many bytes of a string.
const WRITTEN_BYTES: usize = 256;

/// How equality sees strings, numbers and booleans.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaves {
    /// `==`: `1` is not `'1'`.
    AsTheyAre,
    /// `--`: it is.
    AsStrings,
}

pub(super) fn equal(a: &Value<'_>, b: &Value<'_>, leaves: Leaves, at: At, budget: &mut Budget) -> Outcome<bool> {
    budget.step(at)?;
    match (a, b) {
        (Value::Element(_) | Value::Payload(_), _) => equal(&a.view().settle(), b, leaves, at, budget),
        (_, Value::Element(_) | Value::Payload(_)) => equal(a, &b.view().settle(), leaves, at, budget),
        (Value::Null, Value::Null) => Ok(true),
        (Value::Boolean(a), Value::Boolean(b)) => Ok(a == b),
        (Value::Number(a, _), Value::Number(b, _)) => Ok(a == b),
        (Value::String(a), Value::String(b)) => {
            budget.read(at, a.len().min(b.len()))?;
            Ok(a == b)
        }
        (Value::Binary(a), Value::Binary(b)) => {
            budget.read(at, a.len().min(b.len()))?;
            Ok(a == b)
        }
        (Value::List(a), Value::List(b)) => {
            let (a, b) = (a.clone().gather(at, budget)?, b.clone().gather(at, budget)?);
            if a.len() != b.len() {
                return Ok(false);
            }
            for (a, b) in a.iter().zip(&b) {
                if !equal(a, b, leaves, at, budget)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Value::Object(a), Value::Object(b)) => {
            let (mut a, mut b) = (a.clone().gather(at, budget)?, b.clone().gather(at, budget)?);
            if a.len() != b.len() {
                return Ok(false);
            }
            a.sort_by(|a, b| a.0.cmp(&b.0));
            b.sort_by(|a, b| a.0.cmp(&b.0));
            for ((name, a), (other, b)) in a.iter().zip(&b) {
                if name != other || !equal(a, b, leaves, at, budget)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        _ if leaves == Leaves::AsStrings => {
            // A number may have to be written out for it.
            budget.read(at, WRITTEN_BYTES)?;
            let (Some(a), Some(b)) = (a.view().scalar_text(), b.view().scalar_text()) else { return Ok(false) };
            budget.read(at, a.len().min(b.len()))?;
            Ok(a == b)
        }
        _ => Ok(false),
    }
}
